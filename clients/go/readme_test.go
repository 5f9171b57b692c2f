package gateway

import (
	"go/format"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"redis-gateway/clients/go/internal/readme"
	"redis-gateway/clients/go/internal/servers"
)

// TestReadme runs the README's code, in a module of its own, that of the guides' examples: its go-redis is newer than this module's. All
// is one package, and its tests, so that it is built once. The block for Bifrost is tested in the plugin's module.
func TestReadme(t *testing.T) {
	blocks := readme.Blocks(t, ".")
	equal(t, strings.Join(slices.Sorted(maps.Keys(blocks)), ", "),
		"go away, go bifrost, go example, go fake, go routing, sh install, text example-output")
	server := servers.Start(t, servers.Options{})
	directory := t.TempDir()
	here := must(os.Getwd())(t)
	write := func(name, text string) { ok(t, os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600)) }
	read := func(name string) string { return string(must(os.ReadFile(name))(t)) }
	run := func(name string, words ...string) {
		t.Helper()
		command := exec.Command(name, words...)
		command.Dir = directory
		command.Env = append(os.Environ(), "GOWORK=off")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, words, err, out)
		}
	}
	replace := func(text, old, new string) string {
		t.Helper()
		equal(t, strings.Count(text, old), 1)
		return strings.Replace(text, old, new, 1)
	}

	program := replace(blocks["go example"], "localhost:6379", server.Address())
	write("main.go", replace(program, "50 * time.Millisecond", "20 * time.Second")) // A busy machine is slow.
	output := "// " + strings.ReplaceAll(strings.TrimSpace(blocks["text example-output"]), "\n", "\n\t// ")
	write("example_test.go", "package main\n\nfunc Example() {\n\tmain()\n\t// Output:\n\t"+output+"\n}\n")
	write("fake_test.go", blocks["go fake"])
	parts := read("testdata/readme/parts_test.go")
	parts = replace(parts, "// README: go routing", blocks["go routing"])
	parts = replace(parts, "// README: go away", replace(blocks["go away"], "/var/lib/gateway/kept", t.TempDir()))
	write("parts_test.go", string(must(format.Source([]byte(parts)))(t)))

	write("go.mod", read("../../tests/examples/go/go.mod"))
	write("go.sum", read("../../tests/examples/go/go.sum"))
	// As the README says, but that nothing is fetched: go.sum has what is needed.
	run("go", "mod", "edit", "-droprequire", "redis-gateway/clients/go", "-dropreplace", "redis-gateway/clients/go")
	install := replace(blocks["sh install"], "../redis-gateway/clients/go", here)
	run("sh", "-ec", replace(install, "go mod tidy\n", ""))
	run("go", "test", "-vet=all", ".")
}
