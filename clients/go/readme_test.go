package gateway

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"redis-gateway/clients/go/internal/servers"
)

// block is what the README has in the code block with this heading.
func block(t *testing.T, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(string(must(os.ReadFile("README.md"))(t)), "```"+heading+"\n")
	if !found {
		t.Fatalf("the README has no %s", heading)
	}
	text, _, _ = strings.Cut(text, "```")
	return text
}

// TestReadme builds the README's example and its test in a module of its own, that of the guides' examples: its go-redis is newer than
// this module's.
func TestReadme(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	directory := t.TempDir()
	here := must(os.Getwd())(t)
	write := func(name, text string) { ok(t, os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600)) }
	read := func(name string) string { return string(must(os.ReadFile(name))(t)) }
	program := strings.Replace(block(t, "go example"), "localhost:6379", server.Address(), 1)
	write("main.go", strings.Replace(program, "50 * time.Millisecond", "20 * time.Second", 1)) // A busy machine is slow.
	write("fake_test.go", block(t, "go fake"))
	write("go.mod", strings.Replace(read("../../tests/examples/go/go.mod"), "../../../clients/go", here, 1))
	write("go.sum", read("../../tests/examples/go/go.sum"))
	run := func(words ...string) string {
		command := exec.Command("go", words...)
		command.Dir = directory
		command.Env = append(os.Environ(), "GOWORK=off")
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", words, err, out)
		}
		return string(out)
	}
	unformatted, err := exec.Command("gofmt", "-l", directory).CombinedOutput()
	equal(t, string(unformatted), "")
	ok(t, err)
	run("vet", ".")
	equal(t, run("run", "."), block(t, "text example-output"))
	run("test", ".")
}
