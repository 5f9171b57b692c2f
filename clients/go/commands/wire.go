package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// None is the result of what has nothing to tell.
type None struct{}

// Quantity is a count of whole units, or an exact decimal.
type Quantity struct {
	decimal.Decimal

	// Whole: it counts whole units. Budgets and DECIMAL policies do not.
	Whole bool
}

// KeyVersion is a ledger with the version up to which it was stored.
type KeyVersion struct {
	Key     string
	Version int64
}

// Budget is the most that may be spent in a period.
type Budget struct {
	Amount Amount
	Period Period
}

// Int is a value for an option that is an integer.
func Int(value int64) *int64 { return &value }

// Text is a value for an option that is a text, and may be empty.
func Text(value string) *string { return &value }

// What arguments are made of.

func addAll[T any](words []any, values []T) []any {
	for _, value := range values {
		words = append(words, value)
	}
	return words
}

// addKeys adds the first key, and the others after `WITH <count>`.
func addKeys(words []any, keys []string) []any {
	if len(keys) == 0 {
		return words // The server refuses it, and says what is missing.
	}
	words = append(words, keys[0])
	if len(keys) > 1 {
		words = append(words, "WITH", int64(len(keys)-1))
		words = addAll(words, keys[1:])
	}
	return words
}

// addAmounts adds meters and their amounts, in the order of their names, so that equal calls have equal words.
func addAmounts(words []any, amounts map[string]Amount) []any {
	meters := make([]string, 0, len(amounts))
	for meter := range amounts {
		meters = append(meters, meter)
	}
	slices.Sort(meters)
	for _, meter := range meters {
		words = append(words, meter, string(amounts[meter]))
	}
	return words
}

func addVersions(words []any, versions []KeyVersion) []any {
	for _, one := range versions {
		words = append(words, one.Key, one.Version)
	}
	return words
}

func addBudgets(words []any, budgets []Budget) []any {
	for _, one := range budgets {
		words = append(words, string(one.Amount), string(one.Period))
	}
	return words
}

func addPolicy(words []any, policy Policy) []any { return append(words, policy.words()...) }

// What replies are read with. Later servers may add fields: what is not known is ignored.

func unexpected(expected string, reply any) error {
	return &UnexpectedReplyError{expected, fmt.Sprintf("%T", reply)}
}

func readInteger(reply any) (int64, error) {
	if found, is := reply.(int64); is {
		return found, nil
	}
	return 0, unexpected("an integer", reply)
}

func readBoolean(reply any) (bool, error) {
	if found, is := reply.(bool); is {
		return found, nil
	}
	found, err := readInteger(reply)
	return found != 0, err
}

func readText(reply any) (string, error) {
	switch found := reply.(type) {
	case string:
		return found, nil
	case []byte:
		return string(found), nil
	}
	return "", unexpected("a string", reply)
}

func readBytes(reply any) ([]byte, error) {
	if found, is := reply.([]byte); is {
		return found, nil
	}
	found, err := readText(reply)
	if err != nil {
		return nil, err
	}
	return []byte(found), nil
}

func readAmount(reply any) (decimal.Decimal, error) {
	found, err := readText(reply)
	if err != nil {
		return decimal.Zero, unexpected("an amount", reply)
	}
	// The library reads more than the server sends, such as exponents.
	made, err := decimal.NewFromString(found)
	if err != nil || strings.Trim(found, "-.0123456789") != "" {
		return decimal.Zero, unexpected("an amount", reply)
	}
	return made, nil
}

func readQuantity(reply any) (Quantity, error) {
	if found, is := reply.(int64); is {
		return Quantity{decimal.NewFromInt(found), true}, nil
	}
	found, err := readAmount(reply)
	return Quantity{found, false}, err
}

func readCursor(reply any) (uint64, error) {
	if found, is := reply.(int64); is && found >= 0 {
		return uint64(found), nil
	}
	found, err := readText(reply)
	if err == nil {
		if made, err := strconv.ParseUint(found, 10, 64); err == nil {
			return made, nil
		}
	}
	return 0, unexpected("a cursor", reply)
}

func readOK(reply any) (None, error) {
	if found, err := readText(reply); err != nil || found != "OK" {
		return None{}, unexpected("OK", reply)
	}
	return None{}, nil
}

func readStored(reply any) (bool, error) {
	if reply == nil {
		return false, nil
	}
	_, err := readOK(reply)
	return err == nil, err
}

func readWord(reply any, words ...string) (string, error) {
	found, err := readText(reply)
	if err == nil && !slices.Contains(words, found) {
		err = unexpected("one of "+strings.Join(words, ", "), reply)
	}
	return found, err
}

func optional[T any](read func(any) (T, error)) func(any) (*T, error) {
	return func(reply any) (*T, error) {
		if reply == nil {
			return nil, nil
		}
		found, err := read(reply)
		return &found, err
	}
}

// orNil is optional for types that have a nil of their own.
func orNil[T any](read func(any) (T, error)) func(any) (T, error) {
	return func(reply any) (T, error) {
		if reply == nil {
			var none T
			return none, nil
		}
		return read(reply)
	}
}

func arrayOf[T any](read func(any) (T, error)) func(any) ([]T, error) {
	return func(reply any) ([]T, error) {
		var err error
		found := items(&err, reply, 0)
		made := make([]T, len(found))
		for at := range found {
			made[at] = place(&err, found, at, read)
		}
		return made, err
	}
}

func mapOf[T any](read func(any) (T, error)) func(any) (map[string]T, error) {
	return func(reply any) (map[string]T, error) {
		var err error
		found := fields(&err, reply)
		made := make(map[string]T, len(found))
		for name := range found {
			made[name] = named(&err, found, name, read)
		}
		return made, err
	}
}

// The readers of records go on after an error, which stays the first one.

// items reads an array of at least so many items.
func items(err *error, reply any, least int) []any {
	if *err != nil {
		return nil
	}
	found, is := reply.([]any)
	if !is {
		*err = unexpected("an array", reply)
		return nil
	}
	if len(found) < least {
		*err = unexpected(fmt.Sprintf("an array of %d", least), reply)
		return nil
	}
	return found
}

// fields reads a map of RESP3, or the flat array of names and values that RESP2 has instead.
func fields(err *error, reply any) map[string]any {
	if *err != nil {
		return nil
	}
	made := map[string]any{}
	add := func(name, value any) {
		found, failed := readText(name)
		if failed != nil && *err == nil {
			*err = failed
		}
		made[found] = value
	}
	switch found := reply.(type) {
	case map[any]any:
		for name, value := range found {
			add(name, value)
		}
	case []any:
		if len(found)%2 != 0 {
			*err = unexpected("names and values in turn", reply)
			return nil
		}
		for at := 0; at < len(found); at += 2 {
			add(found[at], found[at+1])
		}
	default:
		*err = unexpected("a map", reply)
	}
	return made
}

func one[T any](err *error, reply any, read func(any) (T, error)) T {
	found, failed := read(reply)
	if failed != nil && *err == nil {
		*err = failed
	}
	return found
}

func place[T any](err *error, found []any, at int, read func(any) (T, error)) (none T) {
	if *err != nil {
		return none
	}
	return one(err, found[at], read)
}

func named[T any](err *error, found map[string]any, name string, read func(any) (T, error)) (none T) {
	if *err != nil {
		return none
	}
	value, there := found[name]
	if !there {
		*err = unexpected("a field "+name, found)
		return none
	}
	return one(err, value, read)
}

// tail reads a field that only some replies have, at their end.
func tail[T any](err *error, found []any, at int, read func(any) (T, error)) *T {
	if *err != nil || at >= len(found) {
		return nil
	}
	made := one(err, found[at], read)
	return &made
}

// rest reads all that is left.
func rest[T any](err *error, found []any, from int, read func(any) (T, error)) []T {
	if *err != nil || from >= len(found) {
		return nil
	}
	return one(err, any(found[from:]), arrayOf(read))
}
