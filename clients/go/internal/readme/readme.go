// Package readme has the code blocks of the client's README for the tests that run them.
package readme

import (
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fence = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

// Blocks are the blocks of the README in this directory, by their labels: what stands behind the three ticks. Each has one of its own,
// and is formatted if it is Go.
func Blocks(t *testing.T, directory string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(directory, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		label, block := found[1], found[2]
		if _, twice := blocks[label]; twice {
			t.Errorf("the README has two blocks %q", label)
		}
		blocks[label] = block
		if !strings.HasPrefix(label, "go ") {
			continue
		}
		if formatted, err := format.Source([]byte(block)); err != nil || string(formatted) != block {
			t.Errorf("%s is not formatted: %v\n%s", label, err, formatted)
		}
	}
	return blocks
}
