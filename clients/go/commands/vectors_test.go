package commands

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/shopspring/decimal"
)

func load(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "spec", "vectors", name))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// anyBytes is a string of any bytes: a JSON string if it is UTF-8, and else base64.
type anyBytes string

func (b *anyBytes) UnmarshalJSON(text []byte) error {
	var coded struct{ Base64 []byte }
	if err := json.Unmarshal(text, &coded); err == nil {
		*b = anyBytes(coded.Base64)
		return nil
	}
	return json.Unmarshal(text, (*string)(b))
}

// plainText writes it as the vectors do.
func plainText(text string) any {
	if utf8.ValidString(text) {
		return text
	}
	return map[string]any{"base64": base64.StdEncoding.EncodeToString([]byte(text))}
}

// goName is the Go name of a field or method of the spec.
func goName(name string) string {
	made := ""
	for _, word := range strings.FieldsFunc(name, func(letter rune) bool { return letter == '-' || letter == '_' }) {
		switch word {
		case "id", "ttl", "json", "nx":
			made += strings.ToUpper(word)
		default:
			made += strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return made
}

// argument makes a Go value of an argument of a vector.
func argument(t *testing.T, kind reflect.Type, text json.RawMessage) reflect.Value {
	t.Helper()
	made := reflect.New(kind)
	fail := func(err error) {
		if err != nil {
			t.Fatalf("%s as %s: %v", text, kind, err)
		}
	}
	switch {
	case kind == reflect.TypeFor[Amount]():
		made.Elem().SetString(strings.Trim(string(text), `"`))
	case kind == reflect.TypeFor[map[string]Amount]():
		var found map[string]json.RawMessage
		fail(json.Unmarshal(text, &found))
		amounts := map[string]Amount{}
		for meter, amount := range found {
			amounts[meter] = Amount(strings.Trim(string(amount), `"`))
		}
		made.Elem().Set(reflect.ValueOf(amounts))
	case kind == reflect.TypeFor[Policy]():
		made.Elem().Set(policyOf(t, text))
	case kind == reflect.TypeFor[[]byte]():
		var found anyBytes
		fail(json.Unmarshal(text, &found))
		made.Elem().SetBytes([]byte(found))
	case kind == reflect.TypeFor[KeyVersion](), kind == reflect.TypeFor[Budget]():
		var found []json.RawMessage
		fail(json.Unmarshal(text, &found))
		for at, one := range found {
			made.Elem().Field(at).Set(argument(t, made.Elem().Field(at).Type(), one))
		}
	case kind.Kind() == reflect.Slice:
		var found []json.RawMessage
		if json.Unmarshal(text, &found) != nil {
			found = []json.RawMessage{text} // One instead of several.
		}
		for _, one := range found {
			made.Elem().Set(reflect.Append(made.Elem(), argument(t, kind.Elem(), one)))
		}
	case kind.Kind() == reflect.Pointer:
		made.Elem().Set(argument(t, kind.Elem(), text).Addr())
	case kind.Kind() == reflect.String:
		var found anyBytes
		fail(json.Unmarshal(text, &found))
		made.Elem().SetString(string(found))
	default:
		fail(json.Unmarshal(text, made.Interface()))
	}
	return made.Elem()
}

func policyOf(t *testing.T, text json.RawMessage) reflect.Value {
	t.Helper()
	var found map[string]json.RawMessage
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	for _, one := range policies {
		made := reflect.New(reflect.TypeOf(one).Elem())
		if `"`+made.Elem().Type().Name()+`"` != string(found["kind"]) {
			continue
		}
		delete(found, "kind")
		setFields(t, made.Elem(), found)
		return made.Elem()
	}
	t.Fatalf("no such policy: %s", text)
	return reflect.Value{}
}

func setFields(t *testing.T, made reflect.Value, found map[string]json.RawMessage) {
	t.Helper()
	for name, value := range found {
		field := made.FieldByName(goName(name))
		if !field.IsValid() {
			t.Fatalf("%s has no %s", made.Type(), name)
		}
		field.Set(argument(t, field.Type(), value))
	}
}

// argumentsOf makes the arguments of a call for a function that takes them, after those that it has already.
func argumentsOf(t *testing.T, kind reflect.Type, method string, found map[string]json.RawMessage, made ...reflect.Value) []reflect.Value {
	t.Helper()
	left := map[string]json.RawMessage{}
	for name, value := range found {
		left[name] = value
	}
	for _, one := range positional {
		if one.method != method {
			continue
		}
		for _, name := range one.params {
			value, there := left[name]
			if !there {
				t.Fatalf("%s needs %s", method, name)
			}
			made = append(made, argument(t, kind.In(len(made)), value))
			delete(left, name)
		}
	}
	if len(made) < kind.NumIn() {
		options := reflect.New(kind.In(len(made)).Elem())
		setFields(t, options.Elem(), left)
		made = append(made, options)
	} else if len(left) > 0 {
		t.Fatalf("%s does not take %v", method, left)
	}
	return made
}

// plain writes a typed value as the vectors do.
func plain(value reflect.Value) any {
	switch found := value.Interface().(type) {
	case decimal.Decimal:
		return found.StringFixed(max(0, -found.Exponent())) // With the zeros at its end.
	case Quantity:
		if found.Whole {
			return float64(found.IntPart())
		}
		return found.Decimal.String()
	case []byte:
		if found == nil {
			return nil
		}
		return plainText(string(found))
	case None:
		return nil
	}
	switch value.Kind() {
	case reflect.Interface, reflect.Pointer:
		if value.IsNil() {
			return nil
		}
		return plain(value.Elem())
	case reflect.Struct:
		made := map[string]any{}
		for at := range value.NumField() {
			made[value.Type().Field(at).Tag.Get("json")] = plain(value.Field(at))
		}
		return made
	case reflect.Slice:
		made := []any{}
		for at := range value.Len() {
			made = append(made, plain(value.Index(at)))
		}
		return made
	case reflect.Map:
		made := map[string]any{}
		for _, name := range value.MapKeys() {
			made[name.String()] = plain(value.MapIndex(name))
		}
		return made
	case reflect.String:
		return plainText(value.String())
	case reflect.Int64:
		return float64(value.Int())
	case reflect.Uint64:
		return float64(value.Uint())
	default:
		return value.Interface()
	}
}

// recorded is a server that replies what was recorded, and remembers what it was asked.
type recorded struct {
	address string
	reply   string
	asked   []string
}

func serve(t *testing.T, protocol int) *recorded {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &recorded{address: listener.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		for reader := bufio.NewReader(connection); ; {
			words, err := readWords(reader)
			if err != nil {
				return
			}
			reply := "+OK\r\n"
			switch {
			case strings.EqualFold(words[0], "hello") && protocol == 3:
				reply = "%1\r\n$5\r\nproto\r\n:3\r\n"
			case strings.EqualFold(words[0], "hello"):
				reply = "-ERR unknown command 'HELLO'\r\n"
			case strings.HasPrefix(words[0], "GW."):
				server.asked, reply = words, server.reply
			}
			if _, err := io.WriteString(connection, reply); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return server
}

func readWords(reader *bufio.Reader) ([]string, error) {
	number := func(sign byte) (int, error) {
		line, err := reader.ReadString('\n')
		if err != nil || line[0] != sign {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	count, err := number('*')
	words := make([]string, 0, max(count, 0))
	for range count {
		length, failed := number('$')
		if failed != nil {
			return nil, failed
		}
		word := make([]byte, length+2)
		if _, err = io.ReadFull(reader, word); err != nil {
			return nil, err
		}
		words = append(words, string(word[:length]))
	}
	return words, err
}

type replyCase struct {
	Name, Method string
	Arguments    map[string]json.RawMessage
	Request      []anyBytes
	Repeatable   bool
	RESP2, RESP3 struct {
		Reply anyBytes
		Value any
	}
}

func replyCases(t *testing.T) []replyCase {
	var vectors struct{ Cases []replyCase }
	load(t, "replies.json", &vectors)
	return vectors.Cases
}

// TestReplies makes each recorded call with a real client: it sends exactly the recorded words, and reads the recorded bytes as the
// recorded value.
func TestReplies(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		server := serve(t, protocol)
		client := redis.NewClient(&redis.Options{
			Addr: server.address, Protocol: protocol, PoolSize: 1, MaxRetries: -1, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer client.Close()
		gw := reflect.ValueOf(New(client))
		for _, one := range replyCases(t) {
			t.Run(fmt.Sprintf("RESP%d/%s", protocol, one.Name), func(t *testing.T) {
				want := one.RESP2
				if protocol == 3 {
					want = one.RESP3
				}
				server.reply, server.asked = string(want.Reply), nil
				method := gw.MethodByName(goName(one.Method))
				ctx := reflect.ValueOf(context.Background())
				results := method.Call(argumentsOf(t, method.Type(), one.Method, one.Arguments, ctx))
				if failed := results[len(results)-1]; !failed.IsNil() {
					t.Fatal(failed.Interface())
				}
				var sent []anyBytes
				for _, word := range server.asked {
					sent = append(sent, anyBytes(word))
				}
				if !reflect.DeepEqual(sent, one.Request) {
					t.Errorf("sent %q, want %q", sent, one.Request)
				}
				var got any
				if len(results) == 2 {
					got = plain(results[0])
				}
				if kinds, is := want.Value.(map[string]any); is && kinds["kind"] != nil && one.Method == "describe" {
					if kind := results[0].Elem().Type().Name(); kind != kinds["kind"] {
						t.Errorf("a %s, want a %s", kind, kinds["kind"])
					}
					delete(kinds, "kind")
				}
				if !reflect.DeepEqual(got, want.Value) {
					t.Errorf("read  %v\nwant %v", got, want.Value)
				}
			})
		}
	}
}

// TestRequests makes the same calls without sending them: their words are those that are sent, and it is known whether they can be
// repeated.
func TestRequests(t *testing.T) {
	made := map[string]reflect.Value{}
	for _, one := range positional {
		made[one.method] = reflect.ValueOf(one.request)
	}
	for _, one := range replyCases(t) {
		request := made[one.Method]
		result := request.Call(argumentsOf(t, request.Type(), one.Method, one.Arguments))[0]
		if repeatable := result.FieldByName("Repeatable").Bool(); repeatable != one.Repeatable {
			t.Errorf("%s: repeatable is %t", one.Name, repeatable)
		}
		words := result.FieldByName("Words").Interface().([]any)
		if _, is := words[0].(string); !is || len(words) != len(one.Request) {
			t.Errorf("%s: %v", one.Name, words)
		}
		for at, word := range words {
			if bytes, is := word.([]byte); is {
				word = string(bytes)
			}
			if fmt.Sprint(word) != string(one.Request[at]) {
				t.Errorf("%s: %v, want %q", one.Name, word, one.Request[at])
			}
		}
	}
}

// TestEveryMethodIsRecorded also checks that the list of methods is whole.
func TestEveryMethodIsRecorded(t *testing.T) {
	recorded := map[string]bool{}
	for _, one := range replyCases(t) {
		recorded[goName(one.Method)] = true
	}
	kind := reflect.TypeFor[*Commands]()
	for at := range kind.NumMethod() {
		if name := kind.Method(at).Name; !recorded[name] {
			t.Errorf("no vector calls %s", name)
		}
	}
	if len(recorded) != kind.NumMethod() || len(positional) != kind.NumMethod() {
		t.Errorf("%d methods, %d of them recorded, %d listed", kind.NumMethod(), len(recorded), len(positional))
	}
}
