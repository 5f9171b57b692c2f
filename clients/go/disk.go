package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// disk is a file of lines of this process in a directory that others may use, too.
//
// Each process appends to a file of its own, which it locks. A file that nobody locks was left by a process that is gone: whoever
// finds it takes it over.
type disk struct {
	directory string
	logger    *slog.Logger

	file    *os.File
	lines   int
	size    int64
	torn    bool // Half a line is at the end.
	failing bool
}

const (
	keptSuffix = ".kept"
	newSuffix  = ".new"
)

func (d *disk) isOpen() bool { return d.file != nil }

// write tells whether the disk has taken it.
func (d *disk) write(line deliveryLine) bool {
	err := d.append(line)
	if err != nil && !d.failing {
		d.logger.Error("settlements and charges are kept in memory only", "error", reasonOf(err))
	}
	d.failing = err != nil
	return err == nil
}

// reasonOf leaves the path out.
func reasonOf(err error) string {
	if failed, is := err.(*os.PathError); is {
		return failed.Err.Error()
	}
	return err.Error()
}

func (d *disk) append(line deliveryLine) error {
	if d.file == nil {
		file, err := d.opened(nil)
		if err != nil {
			return err
		}
		d.file, d.lines, d.size, d.torn = file, 0, 0, false
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if d.torn {
		text = append([]byte{'\n'}, text...)
	}
	if _, err := d.file.Write(text); err != nil {
		// Half a line would spoil the next one.
		d.torn = d.file.Truncate(d.size) != nil
		return err
	}
	d.size += int64(len(text))
	d.lines++
	d.torn = false
	return nil
}

// opened makes a file that is locked, and has these lines, before others can find it.
func (d *disk) opened(lines []byte) (*os.File, error) {
	if err := os.MkdirAll(d.directory, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Join(d.directory, newID())
	file, err := os.OpenFile(name+newSuffix, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lock(file); err == nil {
		if _, err = file.Write(lines); err == nil {
			err = os.Rename(name+newSuffix, name+keptSuffix)
		}
	}
	if err != nil {
		file.Close()
		os.Remove(name + newSuffix)
		return nil, err
	}
	return file, nil
}

// path is where the file is now: it was renamed after it was opened.
func pathOf(file *os.File) string {
	return file.Name()[:len(file.Name())-len(newSuffix)] + keptSuffix
}

func (d *disk) empty() {
	if d.lines > 0 && d.file.Truncate(0) == nil {
		d.lines, d.size, d.torn = 0, 0, false
	}
}

// rewrite writes the file anew beside the old one, so that a crash in between loses nothing.
func (d *disk) rewrite(lines []deliveryLine) bool {
	var text bytes.Buffer
	for _, line := range lines {
		made, err := json.Marshal(line)
		if err != nil {
			return false
		}
		text.Write(append(made, '\n'))
	}
	file, err := d.opened(text.Bytes())
	if err != nil {
		d.lines = 0 // The old file is as good, only longer. It is tried again after as many lines.
		return false
	}
	old := d.file
	d.file, d.lines, d.size, d.torn = file, len(lines), int64(text.Len()), false
	os.Remove(pathOf(old))
	old.Close()
	return true
}

func (d *disk) close(empty bool) {
	if d.file == nil {
		return
	}
	if empty {
		os.Remove(pathOf(d.file))
	}
	d.file.Close()
	d.file = nil
}

// left calls `take` with what each process that is gone has left. It returns the ids of those that were taken over or given up.
func (d *disk) left(take func([]*delivery) []string) {
	names, _ := filepath.Glob(filepath.Join(d.directory, "*"+keptSuffix))
	for _, name := range names {
		d.leftIn(name, take)
	}
	// A process has ended while it opened its file.
	names, _ = filepath.Glob(filepath.Join(d.directory, "*"+newSuffix))
	for _, name := range names {
		if status, err := os.Stat(name); err == nil && time.Since(status.ModTime()) > 10*time.Minute {
			os.Remove(name)
		}
	}
}

func (d *disk) leftIn(name string, take func([]*delivery) []string) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if lock(file) != nil {
		return // Its process lives. If it is this one, it has locked it, too.
	}
	status, err := file.Stat()
	if err != nil {
		return
	}
	if there, err := os.Stat(name); err != nil || !os.SameFile(there, status) {
		return // Another process has taken it over between opening and locking it.
	}
	found := deliveriesOf(file, status.ModTime())
	over := take(found)
	if len(over) == len(found) {
		os.Remove(name)
		return
	}
	if len(over) == 0 {
		return
	}
	text := []byte{'\n'}
	for _, id := range over {
		made, _ := json.Marshal(deliveryLine{Done: id})
		text = append(append(text, made...), '\n')
	}
	file.Write(text)
	// When it was written for the last time by its process tells when the rest may have arrived.
	os.Chtimes(name, status.ModTime(), status.ModTime())
}

func isEmpty(words []lineWord) bool { return len(words) == 0 }

// deliveriesOf is what a file has, and has not been done with. `leftAt` is when it was written for the last time.
func deliveriesOf(file io.Reader, leftAt time.Time) []*delivery {
	var order []string
	found := map[string]*delivery{}
	sending := false
	for reader := bufio.NewReader(file); ; {
		text, err := reader.ReadBytes('\n')
		var line deliveryLine
		// Half a line: the process was killed, or the disk was full. What follows is whole.
		if json.Unmarshal(text, &line) == nil {
			switch {
			case line.Done != "":
				delete(found, line.Done)
			case line.Sending != nil:
				sending = *line.Sending
			case line.ID != "" && len(line.Words) > 0 && !slices.ContainsFunc(line.Fallback, isEmpty):
				if found[line.ID] == nil {
					order = append(order, line.ID)
				}
				found[line.ID] = line.delivery()
			}
		}
		if err != nil {
			break
		}
	}
	made := make([]*delivery, 0, len(found))
	for _, id := range order {
		if d := found[id]; d != nil {
			delete(found, id)
			if sending {
				// They may have been under way when their process ended.
				d.mayHaveArrived(leftAt)
			}
			made = append(made, d)
		}
	}
	return made
}
