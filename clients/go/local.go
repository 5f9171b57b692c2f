package gateway

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

const (
	localKeys = 10_000 // Of the keys that were used last.
	// A window is counted in so many parts: what was taken in a part leaves the window with its end, late rather than early.
	localParts = 64
)

// share is this process's part of a limit: at least 1 of a limit above 0, since to refuse everything is what `closed` is for.
func share(limit, instances int64) int64 {
	return max(limit/instances, min(limit, 1))
}

// localWindows are sliding windows by key, for the time in which the server is away.
type localWindows struct {
	now   func() time.Time
	began time.Time

	mutex sync.Mutex
	keys  map[string]*list.Element
	order list.List // The key that was used last is at the end.
}

type localWindow struct {
	key   string
	taken []localPart
}

type localPart struct{ at, units int64 }

func newLocalWindows(now func() time.Time) *localWindows {
	return &localWindows{now: now, began: now(), keys: map[string]*list.Element{}}
}

// take tells whether it is allowed, what is left, and when it would be allowed (negative: never).
func (w *localWindows) take(key string, limit int64, window time.Duration, cost int64, peek bool) (bool, int64, time.Duration) {
	part := max(window/localParts, 1)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	now := w.now().Sub(w.began)
	element := w.keys[key]
	if element == nil {
		element = w.order.PushBack(&localWindow{key: key})
		w.keys[key] = element
	}
	found := element.Value.(*localWindow)
	// What was taken in a part leaves a window after the part's end.
	leaves := func(one localPart) time.Duration { return time.Duration(one.at+1+localParts) * part }
	found.taken = slices.DeleteFunc(found.taken, func(one localPart) bool { return leaves(one) <= now })
	used := int64(0)
	for _, one := range found.taken {
		used += one.units
	}
	allowed := used+cost <= limit
	if allowed && !peek && cost > 0 {
		at := int64(now / part)
		if last := len(found.taken) - 1; last >= 0 && found.taken[last].at == at {
			found.taken[last].units += cost
		} else {
			found.taken = append(found.taken, localPart{at, cost})
		}
		used += cost
	}
	retry := time.Duration(0)
	if !allowed {
		retry = -1
		over := used + cost - limit
		for _, one := range found.taken {
			if over -= one.units; over <= 0 {
				retry = max(time.Millisecond, leaves(one)-now)
				break
			}
		}
	}
	w.used(element, found)
	return allowed, max(0, limit-used), retry
}

func (w *localWindows) used(element *list.Element, found *localWindow) {
	if len(found.taken) == 0 {
		w.order.Remove(element)
		delete(w.keys, found.key)
		return
	}
	w.order.MoveToBack(element)
	if len(w.keys) > localKeys {
		oldest := w.order.Remove(w.order.Front()).(*localWindow)
		delete(w.keys, oldest.key)
	}
}

// localSlots are slots by key, each taken by a holder until it is released or its time is up.
type localSlots struct {
	now   func() time.Time
	mutex sync.Mutex
	keys  map[string]map[string]time.Time
}

func newLocalSlots(now func() time.Time) *localSlots {
	return &localSlots{now: now, keys: map[string]map[string]time.Time{}}
}

// take tells whether there is a slot, how many are taken, and when one is free by itself (negative: never).
func (s *localSlots) take(key string, most int64, holder string, ttl time.Duration) (bool, int64, time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now := s.now()
	holders := s.keys[key]
	if holders == nil {
		holders = map[string]time.Time{}
		s.keys[key] = holders
	}
	first := time.Duration(-1)
	for name, end := range holders {
		if !end.After(now) {
			delete(holders, name)
		} else if left := end.Sub(now); first < 0 || left < first {
			first = left
		}
	}
	_, has := holders[holder]
	if has || int64(len(holders)) < most {
		holders[holder] = now.Add(ttl)
		return true, int64(len(holders)), 0
	}
	if len(holders) == 0 {
		delete(s.keys, key)
	}
	return false, int64(len(holders)), first
}

func (s *localSlots) free(key, holder string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.keys[key], holder)
	if len(s.keys[key]) == 0 {
		delete(s.keys, key)
	}
}
