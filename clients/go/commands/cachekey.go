package commands

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonDepth is the deepest nesting of arrays and objects that has a canonical form.
const jsonDepth = 128

// NotCanonicalError is a value that has no canonical form: it could give two requests one key, or one request two.
type NotCanonicalError struct{ Problem string }

func (e *NotCanonicalError) Error() string { return "no canonical form: " + e.Problem }

func notCanonical(problem string) error { return &NotCanonicalError{problem} }

// KeyOptions are what [CacheKey] may be told.
type KeyOptions struct {
	// Tenant is who may see the answer, as [Text] makes it. Two tenants never share a key, and neither does an empty one with none.
	Tenant *string

	// Ignore are members of the request that do not change the answer, at its top alone.
	Ignore []string
}

// CacheKey returns the key of a request, the same as GW.CACHEKEY's: `category:tenant:hash`, or `category:hash` without a tenant.
//
// Neither may contain a colon. request is JSON text as a []byte or json.RawMessage, or a value that json.Marshal takes. It returns a
// [NotCanonicalError] for a request that has no canonical form.
func CacheKey(category string, request any, options *KeyOptions) (string, error) {
	if options == nil {
		options = &KeyOptions{}
	}
	names := []string{category}
	if options.Tenant != nil {
		names = append(names, *options.Tenant)
	}
	for _, name := range names {
		if strings.Contains(name, ":") {
			return "", errors.New("a colon in the category or the tenant of a cache key")
		}
	}
	made, err := canonical(request, options.Ignore)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(made)
	return strings.Join(append(names, hex.EncodeToString(sum[:])), ":"), nil
}

// Canonical returns the canonical JSON text (RFC 8785) of a value: see [CacheKey] for what it takes.
func Canonical(value any) ([]byte, error) { return canonical(value, nil) }

func canonical(value any, ignore []string) ([]byte, error) {
	text, err := jsonText(value)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, notCanonical("not UTF-8")
	}
	if !json.Valid(text) {
		return nil, notCanonical("not valid JSON")
	}
	// From here on the text is known to be valid, so the reader below looks for no mistakes of the grammar.
	reader := jsonReader{text: text, ignore: ignore}
	reader.value(0)
	if reader.err != nil {
		return nil, reader.err
	}
	return reader.out.Bytes(), nil
}

func jsonText(value any) ([]byte, error) {
	switch found := value.(type) {
	case []byte:
		return found, nil
	case json.RawMessage:
		return found, nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, notCanonical(err.Error())
	}
	// json.Marshal writes this for bytes that are not UTF-8, and the letter U+FFFD itself as it is.
	for at := 0; ; at += 6 {
		found := bytes.Index(text[at:], []byte(`\ufffd`))
		if found < 0 {
			return text, nil
		}
		at += found
		before := text[:at]
		if slashes := len(before) - len(bytes.TrimRight(before, `\`)); slashes%2 == 0 {
			return nil, notCanonical("not UTF-8")
		}
	}
}

// jsonReader writes the canonical form of a valid text.
type jsonReader struct {
	text   []byte
	at     int
	ignore []string
	out    bytes.Buffer
	err    error
}

func (r *jsonReader) fail(problem string) {
	if r.err == nil {
		r.err = notCanonical(problem)
	}
}

// next skips white space, and returns the byte that follows.
func (r *jsonReader) next() byte {
	for r.text[r.at] == ' ' || r.text[r.at] == '\n' || r.text[r.at] == '\r' || r.text[r.at] == '\t' {
		r.at++
	}
	return r.text[r.at]
}

func (r *jsonReader) value(depth int) {
	if r.err != nil {
		return
	}
	switch letter := r.next(); letter {
	case '{', '[':
		if depth == jsonDepth {
			r.fail(fmt.Sprintf("nested deeper than %d", jsonDepth))
			return
		}
		r.at++
		if letter == '{' {
			r.object(depth)
		} else {
			r.array(depth)
		}
	case '"':
		writeString(&r.out, r.string())
	case 't', 'f', 'n':
		length := 4
		if letter == 'f' {
			length = 5
		}
		r.out.Write(r.text[r.at : r.at+length])
		r.at += length
	default:
		start := r.at
		for r.at < len(r.text) && strings.IndexByte("+-.0123456789eE", r.text[r.at]) >= 0 {
			r.at++
		}
		r.number(string(r.text[start:r.at]))
	}
}

func (r *jsonReader) array(depth int) {
	r.out.WriteByte('[')
	for first := true; r.err == nil && r.next() != ']'; first = false {
		if !first {
			r.at++ // The comma.
			r.out.WriteByte(',')
		}
		r.value(depth + 1)
	}
	r.at++
	r.out.WriteByte(']')
}

func (r *jsonReader) object(depth int) {
	type member struct {
		name  string
		sort  []uint16
		value []byte
	}
	var members []member
	seen := map[string]bool{}
	outer := r.out
	for first := true; r.err == nil && r.next() != '}'; first = false {
		if !first {
			r.at++ // The comma.
			r.next()
		}
		name := r.string()
		r.next()
		r.at++ // The colon.
		if seen[name] {
			r.fail("a name that repeats")
		}
		seen[name] = true
		r.out = bytes.Buffer{}
		r.value(depth + 1)
		if depth > 0 || !slices.Contains(r.ignore, name) {
			members = append(members, member{name, utf16.Encode([]rune(name)), r.out.Bytes()})
		}
	}
	r.out = outer
	r.at++
	slices.SortFunc(members, func(a, b member) int { return slices.Compare(a.sort, b.sort) })
	r.out.WriteByte('{')
	for at, one := range members {
		if at > 0 {
			r.out.WriteByte(',')
		}
		writeString(&r.out, one.name)
		r.out.WriteByte(':')
		r.out.Write(one.value)
	}
	r.out.WriteByte('}')
}

func (r *jsonReader) string() string {
	start := r.at
	for r.at++; r.text[r.at] != '"'; r.at++ {
		if r.text[r.at] != '\\' {
			continue
		}
		r.at++
		if r.text[r.at] != 'u' {
			continue
		}
		half := r.escaped(r.at + 1)
		r.at += 4
		if !utf16.IsSurrogate(half) {
			continue
		}
		// json.Unmarshal would make U+FFFD of a half.
		if bytes.HasPrefix(r.text[r.at+1:], []byte(`\u`)) && utf16.DecodeRune(half, r.escaped(r.at+3)) != utf8.RuneError {
			r.at += 6
		} else {
			r.fail("half of a surrogate pair")
		}
	}
	r.at++
	var made string
	if err := json.Unmarshal(r.text[start:r.at], &made); err != nil {
		r.fail(err.Error())
	}
	return made
}

func (r *jsonReader) escaped(at int) rune {
	found, _ := strconv.ParseUint(string(r.text[at:at+4]), 16, 32)
	return rune(found)
}

func writeString(out *bytes.Buffer, text string) {
	out.WriteByte('"')
	for _, letter := range text {
		switch {
		case letter == '"' || letter == '\\':
			out.WriteByte('\\')
			out.WriteRune(letter)
		case letter >= ' ':
			out.WriteRune(letter)
		case strings.ContainsRune("\b\t\n\f\r", letter):
			out.WriteByte('\\')
			out.WriteByte("btn?fr"[letter-'\b'])
		default:
			fmt.Fprintf(out, `\u%04x`, letter)
		}
	}
	out.WriteByte('"')
}

func (r *jsonReader) number(text string) {
	found, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(found, 0) {
		r.fail("a number that a double cannot hold")
		return
	}
	written := formatDouble(found)
	// An integer that the double would change into another, such as a seed.
	if !strings.ContainsAny(text, ".eE") && math.Abs(found) >= 1<<53 {
		given, _ := new(big.Int).SetString(text, 10)
		shown, exact := new(big.Float).SetPrec(2048).SetString(written)
		if whole, accuracy := shown.Int(nil); !exact || accuracy != big.Exact || whole.Cmp(given) != 0 {
			r.fail("a number that a double cannot hold")
			return
		}
	}
	r.out.WriteString(written)
}

// formatDouble writes a number as ECMAScript does.
func formatDouble(value float64) string {
	if value == 0 {
		return "0"
	}
	format := byte('f')
	if size := math.Abs(value); size < 1e-6 || size >= 1e21 {
		format = 'e'
	}
	text := strconv.FormatFloat(value, format, -1, 64)
	// Go writes two digits of an exponent at least.
	if at := strings.IndexByte(text, 'e'); at >= 0 && text[at+2] == '0' {
		text = text[:at+2] + text[at+3:]
	}
	return text
}
