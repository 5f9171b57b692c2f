package bifrost

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"redis-gateway/clients/go/internal/readme"
)

// embedding is what the README's block needs around it. All of Bifrost has a hundred modules more than its schemas: its Init stands
// here as TestReadme finds it in Bifrost's source.
const embedding = `package readme

import (
	"context"

	"github.com/maximhq/bifrost/core/schemas"

	gateway "redis-gateway/clients/go"
	"redis-gateway/clients/go/bifrost"
)

type Bifrost struct{}

var core struct {
	Init INIT
}

func embed(
	ctx context.Context, gw *gateway.Gateway, account schemas.Account,
	estimates func(*schemas.BifrostContext, *schemas.BifrostRequest) gateway.Amounts,
	price func(model string, usage schemas.BifrostLLMUsage) gateway.Amounts,
) (*Bifrost, error) {
	BLOCK
	return client, err
}
`

// TestReadme builds the README's block, in a package that is in this module for the compiler only.
func TestReadme(t *testing.T) {
	program := strings.Replace(embedding, "BLOCK", readme.Blocks(t, "..")["go bifrost"], 1)
	program = strings.Replace(program, "INIT", initOf(t), 1)
	directory := t.TempDir()
	write := func(name string, text []byte) string {
		name = filepath.Join(directory, name)
		ok(t, os.WriteFile(name, text, 0o600))
		return name
	}
	here, err := os.Getwd()
	ok(t, err)
	files := map[string]string{filepath.Join(here, "readme", "readme.go"): write("readme.go", []byte(program))}
	overlay, err := json.Marshal(map[string]any{"Replace": files})
	ok(t, err)
	if out, err := exec.Command("go", "build", "-overlay", write("overlay.json", overlay), "./readme").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, program)
	}
}

// initOf is the type of Bifrost's Init.
func initOf(t *testing.T) string {
	t.Helper()
	directory, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/maximhq/bifrost/core").Output()
	ok(t, err)
	name := filepath.Join(strings.TrimSpace(string(directory)), "bifrost.go")
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	ok(t, err)
	for _, declared := range file.Decls {
		if function, is := declared.(*ast.FuncDecl); is && function.Recv == nil && function.Name.Name == "Init" {
			return types.ExprString(function.Type)
		}
	}
	t.Fatalf("%s has no Init", name)
	return ""
}
