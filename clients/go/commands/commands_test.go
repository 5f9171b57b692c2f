package commands

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/internal/servers"
)

var background = context.Background()

// onServer runs a test on a server, in both versions of the protocol.
func onServer(t *testing.T, test func(t *testing.T, client *redis.Client, gw *Commands)) {
	server := servers.Start(t, servers.Options{})
	for protocol, name := range map[int]string{2: "RESP2", 3: "RESP3"} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: server.Address(), Protocol: protocol})
			defer client.Close()
			if err := client.FlushAll(background).Err(); err != nil {
				t.Fatal(err)
			}
			test(t, client, New(client))
		})
	}
}

// must returns the value of a call that is to succeed.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestARequestFromAdmissionToSettlement(t *testing.T) {
	onServer(t, func(t *testing.T, _ *redis.Client, gw *Commands) {
		must(gw.PolicySet(background, "user:42", "rpm", WindowPolicy{Limit: "2", WindowMs: 60_000}, nil))(t)
		first := must(gw.Admit(background, []string{"user:42"}, "1", 30_000, nil))(t)
		if !first.Admitted || len(first.Rows) != 1 || first.Rows[0].Policy != "rpm" || first.Rows[0].Remaining.IntPart() != 1 {
			t.Errorf("%+v", first)
		}
		second := must(gw.Admit(background, []string{"user:42", "none"}, "2", 30_000, &AdmitOptions{Rows: RowsNone}))(t)
		denied := must(gw.Admit(background, []string{"user:42"}, "3", 30_000, &AdmitOptions{Rows: RowsRefused}))(t)
		if !second.Admitted || denied.Admitted || denied.RetryAfterMs <= 0 {
			t.Errorf("%+v, %+v", second, denied)
		}
		amounts := &SettleOptions{Amounts: map[string]Amount{"requests": "0", "usd": "0.5"}}
		for _, want := range []Outcome{OutcomeSettled, OutcomeRepeated} {
			if got := must(gw.Settle(background, []string{"user:42"}, "1", amounts))(t); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		if got := must(gw.Settle(background, []string{"user:42"}, "none", nil))(t); got != OutcomeUnknown {
			t.Errorf("%s", got)
		}
		var none *NoAccountError
		_, err := gw.Admit(background, []string{"none"}, "4", 1000, &AdmitOptions{Require: true})
		if !errors.As(err, &none) || none.Account != "none" {
			t.Errorf("%v", err)
		}
		var refused *ReplyError
		if _, err := gw.Admit(background, nil, "5", 1000, nil); !errors.As(err, &refused) {
			t.Errorf("without an account: %v", err)
		}
	})
}

func TestNamesOfAnyBytesComeBackAsTheyWere(t *testing.T) {
	onServer(t, func(t *testing.T, _ *redis.Client, gw *Commands) {
		name := "\xff\x00\r\n\x80"
		must(gw.PolicySet(background, name, name, WindowPolicy{Limit: "1", WindowMs: 60_000}, nil))(t)
		row := must(gw.Admit(background, []string{name}, name, 1000, nil))(t).Rows[0]
		if row.Account != name || row.Policy != name {
			t.Errorf("%+v", row)
		}
	})
}

func TestValuesOfAnyBytes(t *testing.T) {
	onServer(t, func(t *testing.T, _ *redis.Client, gw *Commands) {
		value := make([]byte, 256)
		for at := range value {
			value[at] = byte(at)
		}
		must(gw.CacheSet(background, "chat:1", value, nil))(t)
		if got := must(gw.CacheGet(background, "chat:1"))(t); !bytes.Equal(got, value) {
			t.Errorf("%q", got)
		}
		must(gw.CacheSet(background, "chat:2", nil, nil))(t)
		if got := must(gw.CacheGet(background, "chat:2"))(t); got == nil || len(got) != 0 {
			t.Errorf("an empty value is %v", got)
		}
		if got := must(gw.CacheGet(background, "chat:3"))(t); got != nil {
			t.Errorf("none is %v", got)
		}
		records := [][]byte{value, {}, []byte("é")}
		must(gw.LogPush(background, "log", records, nil))(t)
		if got := must(gw.LogPop(background, "log", &LogPopOptions{Count: Int(5)}))(t); !reflect.DeepEqual(got, records) {
			t.Errorf("%q", got)
		}
	})
}

func TestPipelinesAndTransactions(t *testing.T) {
	onServer(t, func(t *testing.T, client *redis.Client, gw *Commands) {
		for at, pipe := range []redis.Pipeliner{client.Pipeline(), client.TxPipeline()} {
			allow, charge, get := AllowRequest("k", 2, nil), AddCostRequest("spend", "0.5", nil), CacheGetRequest("none")
			wrong := CacheGetRequest("k")
			allowed, charged := allow.Queue(background, pipe), charge.Queue(background, pipe)
			found, refused := get.Queue(background, pipe), wrong.Queue(background, pipe)
			pipe.Exec(background) // Its error is that of the first command that has one.
			if got := must(allow.Read(allowed))(t); !got.Allowed || got.Remaining != int64(1-at) {
				t.Errorf("%+v", got)
			}
			if got := must(charge.Read(charged))(t); got.String() != []string{"0.5", "1"}[at] {
				t.Errorf("%v", got)
			}
			if got := must(get.Read(found))(t); got != nil {
				t.Errorf("%v", got)
			}
			var kind *WrongTypeError
			if _, err := wrong.Read(refused); !errors.As(err, &kind) {
				t.Errorf("%v", err)
			}
		}
	})
}

// sample makes an argument of a type.
func sample(kind reflect.Type) reflect.Value {
	made := reflect.New(kind).Elem()
	switch kind.Kind() {
	case reflect.String:
		made.SetString("1")
	case reflect.Slice:
		made.Set(reflect.MakeSlice(kind, 1, 1))
	case reflect.Interface:
		made.Set(reflect.ValueOf(WindowPolicy{Limit: "1", WindowMs: 1}))
	}
	return made
}

func TestAReplyOfAnotherShapeIsRefusedOrRead(t *testing.T) {
	atoms := []any{
		nil, true, int64(0), int64(1), int64(-1), int64(1 << 62), 0.5, "", "OK", "HIT", "1.5", []byte{}, []byte("OK"), "MISS", "\xff",
		"type", "1e5", struct{}{}, errors.New("nested"),
	}
	generator := rand.New(rand.NewPCG(1, 2))
	var anything func(depth int) any
	anything = func(depth int) any {
		if depth == 0 || generator.Float64() < 0.4 {
			return atoms[generator.IntN(len(atoms))]
		}
		items := make([]any, []int{0, 1, 2, 3, 5, 7, 8, 11}[generator.IntN(8)])
		named := map[any]any{}
		for at := range items {
			items[at] = anything(depth - 1)
			named[[]any{"type", "hits", int64(1), "x"}[generator.IntN(4)]] = items[at]
		}
		if generator.Float64() < 0.3 {
			return named
		}
		return items
	}
	for _, one := range positional {
		request := reflect.ValueOf(one.request)
		var arguments []reflect.Value
		for at := range request.Type().NumIn() {
			arguments = append(arguments, sample(request.Type().In(at)))
		}
		decode := request.Call(arguments)[0].FieldByName("Decode")
		for range 500 {
			reply := reflect.New(reflect.TypeFor[any]()).Elem()
			if made := anything(3); made != nil {
				reply.Set(reflect.ValueOf(made))
			}
			failed, _ := decode.Call([]reflect.Value{reply})[1].Interface().(error)
			var known *UnexpectedReplyError
			if failed != nil && !errors.As(failed, &known) {
				t.Fatalf("%s of %v: %v", one.method, reply, failed)
			}
		}
	}
}

func TestWhatLaterServersAddIsIgnored(t *testing.T) {
	verdict, err := AllowRequest("k", 1, nil).Decode([]any{int64(1), int64(2), int64(1), int64(0), int64(5), "new"})
	if err != nil || verdict.ResetAfterMs != 5 {
		t.Errorf("%+v, %v", verdict, err)
	}
	figures := map[any]any{"hit_rate": "0.5", "saved": "2", "new": []any{}}
	kind := reflect.TypeFor[CacheFigures]()
	for at := range kind.NumField() {
		if name := kind.Field(at).Tag.Get("json"); figures[name] == nil {
			figures[name] = int64(1)
		}
	}
	total := CacheStatsTotalRequest()
	if made, err := total.Decode(figures); err != nil || made.Saved.String() != "2" {
		t.Errorf("%+v, %v", made, err)
	}
	delete(figures, "hits")
	if _, err := total.Decode(figures); err == nil || !strings.Contains(err.Error(), "hits") {
		t.Errorf("%v", err)
	}
}

// TestEveryParameterIsDocumented reads the comments of methods and of the fields of options and policies.
func TestEveryParameterIsDocumented(t *testing.T) {
	files := token.NewFileSet()
	documented := 0
	for _, name := range []string{"methods_generated.go", "requests_generated.go", "types_generated.go"} {
		file, err := parser.ParseFile(files, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch found := node.(type) {
			case *ast.FuncDecl:
				if found.Recv == nil || found.Name.Name == "words" || strings.HasPrefix(found.Name.Name, "is") {
					return false
				}
				for _, param := range found.Type.Params.List {
					name := param.Names[0].Name
					if name == "ctx" || name == "options" {
						continue
					}
					documented++
					if !strings.Contains(found.Doc.Text(), " - "+name+": ") {
						t.Errorf("%s says nothing of %s", found.Name.Name, name)
					}
				}
				return false
			case *ast.StructType:
				for _, field := range found.Fields.List {
					documented++
					if text := field.Doc.Text(); len(text) < 3 || strings.Contains(text, "See the reference") {
						t.Errorf("%s is not explained: %q", field.Names[0].Name, text)
					}
				}
			}
			return true
		})
	}
	if documented < 300 {
		t.Errorf("%d parameters", documented)
	}
}

func TestTheTableHasEveryCommand(t *testing.T) {
	var listed, sent []string
	for _, one := range table {
		listed = append(listed, one.Name)
	}
	for _, one := range replyCases(t) {
		sent = append(sent, string(one.Request[0]))
	}
	slices.Sort(sent)
	if !slices.Equal(slices.Compact(sent), listed) {
		t.Errorf("%v, %v", sent, listed)
	}
	if info, known := Info("GW.LOGPOP"); !known || info != (CommandInfo{"GW.LOGPOP", "log", true, false, true, false}) {
		t.Errorf("%+v", info)
	}
}
