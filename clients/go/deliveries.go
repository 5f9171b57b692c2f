package gateway

import (
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"redis-gateway/clients/go/commands"
)

// For so long what was sent may still be on its way to a server that has frozen.
const grace = 5 * time.Second

// delivery is a call that can be repeated, and what is sent instead if the server does not know what it is about.
type delivery struct {
	id    string
	words []string

	// fallback is sent if the reply is UNKNOWN or NOHOLD: charges, each with an id of its own.
	fallback [][]string

	// firstSent is when it may have arrived for the first time; zero if it certainly has not.
	firstSent time.Time

	// early: what it is about may still be on its way to the server. Then UNKNOWN does not count as an answer yet.
	early bool

	// againUntil is the end of that: some time after the first answer. Zero before that answer.
	againUntil time.Time

	// What the disk knows of it that may change.
	stored                     bool
	storedFirst, storedAgainTo time.Time
}

func newDelivery[T any](request commands.Request[T]) *delivery {
	return &delivery{id: newID(), words: plainWords(request.Words)}
}

func plainWords(words []any) []string {
	made := make([]string, len(words))
	for at, word := range words {
		if found, is := word.([]byte); is {
			made[at] = string(found)
		} else {
			made[at] = fmt.Sprint(word)
		}
	}
	return made
}

func (d *delivery) call() call {
	words := make([]any, len(d.words))
	for at, word := range d.words {
		words[at] = word
	}
	return call{words, true}
}

func (d *delivery) isSettlement() bool {
	return d.words[0] == "GW.SETTLE" || d.words[0] == "GW.COMMIT" || d.words[0] == "GW.CANCEL"
}

func (d *delivery) mayHaveArrived(at time.Time) {
	if d.firstSent.IsZero() {
		d.firstSent = at
	}
}

// askAgain is called if the reply is UNKNOWN, and tells whether to ask again. A server that was frozen may read this before what was
// sent earlier on another connection, so the time counts from its first answer.
func (d *delivery) askAgain() bool {
	if d.early && d.againUntil.IsZero() {
		d.againUntil = time.Now().Add(grace)
	}
	return d.early && time.Now().Before(d.againUntil)
}

// charges are what is sent instead.
func (d *delivery) charges() []*delivery {
	made := make([]*delivery, len(d.fallback))
	for at, words := range d.fallback {
		made[at] = &delivery{id: newID(), words: words}
	}
	return made
}

// deliveryLine is how the disk has it: a delivery, one that is done, or whether some are under way.
type deliveryLine struct {
	ID         string       `json:"id,omitempty"`
	Words      []lineWord   `json:"words,omitempty"`
	Fallback   [][]lineWord `json:"fallback,omitempty"`
	FirstSent  int64        `json:"first_sent_ms,omitempty"`
	Early      bool         `json:"early,omitempty"`
	AgainUntil int64        `json:"again_until_ms,omitempty"`
	Done       string       `json:"done,omitempty"`
	Sending    *bool        `json:"sending,omitempty"`
}

// lineWord is a string of any bytes.
type lineWord string

func (w lineWord) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(w)) {
		return json.Marshal(string(w))
	}
	return json.Marshal(map[string][]byte{"base64": []byte(w)})
}

func (w *lineWord) UnmarshalJSON(text []byte) error {
	var coded struct{ Base64 []byte }
	if json.Unmarshal(text, &coded) == nil {
		*w = lineWord(coded.Base64)
		return nil
	}
	return json.Unmarshal(text, (*string)(w))
}

func converted[To, From ~string](words []From) []To {
	made := make([]To, len(words))
	for at, word := range words {
		made[at] = To(word)
	}
	return made
}

func (d *delivery) line() deliveryLine {
	made := deliveryLine{
		ID: d.id, Words: converted[lineWord](d.words), Early: d.early, FirstSent: unixMs(d.firstSent), AgainUntil: unixMs(d.againUntil),
	}
	for _, words := range d.fallback {
		made.Fallback = append(made.Fallback, converted[lineWord](words))
	}
	return made
}

func (l deliveryLine) delivery() *delivery {
	made := &delivery{
		id: l.ID, words: converted[string](l.Words), early: l.Early, firstSent: timeOf(l.FirstSent), againUntil: timeOf(l.AgainUntil),
	}
	for _, words := range l.Fallback {
		made.fallback = append(made.fallback, converted[string](words))
	}
	return made
}

func unixMs(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// keptDeliveries is a bounded queue, in memory and, if it is given a directory, on the disk.
//
// If the disk does not take something, it is kept in memory, and nobody is told an error: a request does not fail because the disk
// is full.
type keptDeliveries struct {
	settings *Kept
	logger   *slog.Logger

	mutex sync.Mutex
	kept  map[string]*list.Element
	order list.List
	disk  *disk // Nil without a directory.
	// Sendings that are under way.
	sending int
	// What was too old when its file was taken over.
	givenUp int
	closed  bool
}

func newKeptDeliveries(settings *Kept, logger *slog.Logger) *keptDeliveries {
	made := &keptDeliveries{settings: settings, logger: logger, kept: map[string]*list.Element{}}
	if settings.Directory != "" {
		made.disk = &disk{directory: settings.Directory, logger: logger}
	}
	return made
}

func (k *keptDeliveries) count() int {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return len(k.kept)
}

// tooOld: it may have arrived, and the server may have forgotten that: to send it again could charge it twice.
func (k *keptDeliveries) tooOld(d *delivery) bool {
	within := k.settings.ChargeWithin
	if d.isSettlement() {
		within = k.settings.SettleWithin
	}
	return !d.firstSent.IsZero() && time.Since(d.firstSent) > within
}

// mayBook: UNKNOWN certainly means that it was never settled. A busy account forgets what was settled before an hour has passed.
func (k *keptDeliveries) mayBook(d *delivery) bool {
	return d.firstSent.IsZero() || time.Since(d.firstSent) <= k.settings.BookWithin
}

// arrived: it may have. What is kept changes with the lock alone, since it may be written at that moment.
func (k *keptDeliveries) arrived(d *delivery, at time.Time) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	d.mayHaveArrived(at)
}

func (k *keptDeliveries) askAgain(d *delivery) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return d.askAgain()
}

// add tells whether there was room.
func (k *keptDeliveries) add(d *delivery) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if _, has := k.kept[d.id]; !has && len(k.kept) >= k.settings.Count {
		return false
	}
	if k.closed && k.disk == nil {
		return false // Nobody would ever send it.
	}
	k.put(d)
	return true
}

func (k *keptDeliveries) put(d *delivery) {
	if element := k.kept[d.id]; element != nil {
		element.Value = d
	} else {
		k.kept[d.id] = k.order.PushBack(d)
	}
	k.store(d)
}

func (k *keptDeliveries) first(count int) []*delivery {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	var found []*delivery
	for element := k.order.Front(); element != nil && len(found) < count; element = element.Next() {
		found = append(found, element.Value.(*delivery))
	}
	return found
}

// underWay tells whether some of them are under way: if the process ends meanwhile, they may have arrived.
func (k *keptDeliveries) underWay(now bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	before := k.sending > 0
	if now {
		k.sending++
	} else {
		k.sending--
	}
	if k.disk != nil && k.disk.isOpen() && before != (k.sending > 0) {
		k.disk.write(deliveryLine{Sending: &now})
	}
}

// done takes it out. What comes instead is there before it is gone.
func (k *keptDeliveries) done(d *delivery, instead ...*delivery) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, other := range instead {
		k.put(other)
	}
	if element := k.kept[d.id]; element != nil {
		k.order.Remove(element)
		delete(k.kept, d.id)
		if d.stored {
			k.disk.write(deliveryLine{Done: d.id})
		}
	}
	k.shrink()
}

// later moves it to the end of the queue, with what is known of it now.
func (k *keptDeliveries) later(d *delivery) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if element := k.kept[d.id]; element != nil {
		k.order.MoveToBack(element)
		k.store(d)
		k.shrink()
	}
}

// store tells whether the disk has it as it is now. Nothing is written if nothing has changed.
func (k *keptDeliveries) store(d *delivery) bool {
	if k.disk == nil {
		return false
	}
	same := func() bool {
		return d.stored && d.storedFirst.Equal(d.firstSent) && d.storedAgainTo.Equal(d.againUntil)
	}
	if !same() && k.disk.write(d.line()) {
		d.stored, d.storedFirst, d.storedAgainTo = true, d.firstSent, d.againUntil
	}
	return same()
}

func (k *keptDeliveries) shrink() {
	if k.disk == nil || !k.disk.isOpen() {
		return
	}
	if len(k.kept) == 0 {
		k.disk.empty()
		return
	}
	if k.disk.lines <= 10_000 || k.disk.lines <= 10*len(k.kept) {
		return
	}
	var lines []deliveryLine
	for element := k.order.Front(); element != nil; element = element.Next() {
		lines = append(lines, element.Value.(*delivery).line())
	}
	if k.sending > 0 {
		yes := true
		lines = append(lines, deliveryLine{Sending: &yes})
	}
	if !k.disk.rewrite(lines) {
		return
	}
	for element := k.order.Front(); element != nil; element = element.Next() {
		d := element.Value.(*delivery)
		d.stored, d.storedFirst, d.storedAgainTo = true, d.firstSent, d.againUntil
	}
}

// adopt takes over what processes that are gone have left, and returns how much it was.
func (k *keptDeliveries) adopt() int {
	if k.disk == nil {
		return 0
	}
	found := 0
	k.disk.left(func(left []*delivery) (over []string) {
		for _, d := range left {
			if k.tooOld(d) {
				k.mutex.Lock()
				k.givenUp++
				k.mutex.Unlock()
			} else if !k.takeOver(d) {
				continue // There was no room for it, in memory or on the disk: it stays where it is.
			} else {
				found++
			}
			over = append(over, d.id)
		}
		return over
	})
	return found
}

func (k *keptDeliveries) takeOver(d *delivery) bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.kept[d.id] != nil {
		return true
	}
	if len(k.kept) >= k.settings.Count || !k.store(d) {
		return false
	}
	k.kept[d.id] = k.order.PushBack(d)
	return true
}

// takeGivenUp returns how many were given up since it was asked before.
func (k *keptDeliveries) takeGivenUp() int {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	found := k.givenUp
	k.givenUp = 0
	return found
}

// close leaves what is left on the disk for the next process.
func (k *keptDeliveries) close() {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.closed = true
	if k.disk != nil {
		k.disk.close(len(k.kept) == 0)
	}
}

var errLocked = errors.New("its process lives")
