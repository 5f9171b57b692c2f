package gatewaytest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"

	"redis-gateway/clients/go/commands"
)

const (
	most    = 1 << 53
	longest = 31_622_400_000 // A year in milliseconds.
)

// refusal is an error reply. It ends the command that panics with it.
type refusal string

// notInFake is what the fake does not have. It ends the command that panics with it.
type notInFake string

func refuse(format string, values ...any) { panic(refusal("ERR " + fmt.Sprintf(format, values...))) }

func unknownOption(option string) { refuse("unknown option: %s", option) }

var integer = regexp.MustCompile(`^-?[0-9]+$`)

func whole(word, name string, least, most int64) int64 {
	number, err := strconv.ParseInt(word, 10, 64)
	if err != nil || !integer.MatchString(word) || number < least || number > most {
		refuse("not an integer from %d to %d: %s", least, most, name)
	}
	return number
}

func amountOf(word, name string, negative bool) decimal.Decimal {
	made, err := commands.ParseAmount(word)
	if err != nil {
		refuse("%s: %s", err, name)
	}
	if made.IsNegative() && !negative {
		refuse("negative amount: %s", name)
	}
	return made
}

// words are those of a call after its name, taken from the left.
type words struct{ left []string }

func (w *words) more() bool { return len(w.left) > 0 }

func (w *words) take(name string) string {
	if !w.more() {
		refuse("missing value: %s", name)
	}
	found := w.left[0]
	w.left = w.left[1:]
	return found
}

func (w *words) option() string { return strings.ToUpper(w.take("option")) }

// peek is the next word in upper case; empty if there is none.
func (w *words) peek() string {
	if !w.more() {
		return ""
	}
	return strings.ToUpper(w.left[0])
}

func (w *words) rest() []string {
	found := w.left
	w.left = nil
	return found
}

func (w *words) name(option string, longest int) string {
	found := w.take(option)
	if len(found) < 1 || len(found) > longest {
		refuse("not a name of 1 to %d bytes: %s", longest, option)
	}
	return found
}

func (w *words) integer(option string, least, most int64) int64 {
	return whole(w.take(option), option, least, most)
}

func (w *words) amount(name string) decimal.Decimal { return amountOf(w.take(name), name, false) }

// keys are a key, and further ones after WITH and their number.
func (w *words) keys(most int64) []string {
	found := []string{w.take("account")}
	if w.peek() == "WITH" {
		w.option()
		for range w.integer("numkeys", 1, most) {
			found = append(found, w.take("account"))
		}
	}
	for at, key := range found {
		if slices.Contains(found[:at], key) {
			refuse("repeated key: %s", key)
		}
	}
	return found
}

// readWords reads a command.
func readWords(reader *bufio.Reader) ([]string, error) {
	number := func(sign byte) (int, error) {
		line, err := reader.ReadString('\n')
		if err != nil || line[0] != sign {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	count, err := number('*')
	if err != nil || count < 1 {
		return nil, io.ErrUnexpectedEOF
	}
	found := make([]string, count)
	for at := range found {
		length, err := number('$')
		if err != nil {
			return nil, err
		}
		word := make([]byte, length+2)
		if _, err = io.ReadFull(reader, word); err != nil {
			return nil, err
		}
		found[at] = string(word[:length])
	}
	return found, nil
}
