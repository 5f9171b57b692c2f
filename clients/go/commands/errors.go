package commands

import (
	"errors"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ReplyError is an error reply. A command that replies an error has changed nothing.
//
// Each code has a type of its own, such as [NoAccountError], which is a ReplyError, too: errors.As finds both. A reply with a
// code that this version does not know is a ReplyError alone.
type ReplyError struct {
	// Code is the first word, such as LEASEENDED.
	Code string

	// Text is what follows.
	Text string

	// Away: the server is to be treated as away.
	Away bool

	// Retry: the same call may succeed after a moment.
	Retry bool
}

func (e *ReplyError) Error() string { return e.Code + " " + e.Text }

// ErrorOf makes the error of a reply, by its line: `CODE text`. A line that does not begin with a code is taken for the text of
// one with the code ERR, which some clients leave out.
func ErrorOf(line string) error {
	code, text, _ := strings.Cut(line, " ")
	if !isCode(code) || bare(code) {
		code, text = "ERR", line
	}
	return ErrorWith(code, text)
}

func isCode(word string) bool {
	for _, letter := range word {
		if letter < 'A' || letter > 'Z' {
			return false
		}
	}
	return word != ""
}

// Typed turns an error reply into a type of this package. All other errors stay as they are.
func Typed(err error) error {
	var refused redis.Error
	if errors.As(err, &refused) && !errors.Is(err, redis.Nil) {
		return ErrorOf(refused.Error())
	}
	return err
}

// groups finds the fields of an error's text, empty if it has another form.
func groups(pattern *regexp.Regexp, text string, count int) []string {
	found := pattern.FindStringSubmatch(text)
	if found == nil {
		return make([]string, count)
	}
	return found[1:]
}

// UnexpectedReplyError is a reply of a shape that this version of the client does not know.
type UnexpectedReplyError struct {
	// Expected is what it should have been.
	Expected string

	// Got is the type of what came.
	Got string
}

func (e *UnexpectedReplyError) Error() string { return "expected " + e.Expected + ", got " + e.Got }
