package commands

import (
	"errors"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// Amount is an amount of money or of any meter, as a text such as "0.02" or "1500": exact to 12 places, from -10^18 to 10^18. Empty
// is no amount. [AmountOf] makes one of a number.
type Amount string

// Number is what [AmountOf] takes.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// AmountOf makes the amount of a number. A float is sent as the shortest text that reads as the same float, so 0.1 is 0.1.
func AmountOf[N Number](number N) Amount {
	value := reflect.ValueOf(number)
	switch {
	case value.CanInt():
		return Amount(strconv.FormatInt(value.Int(), 10))
	case value.CanUint():
		return Amount(strconv.FormatUint(value.Uint(), 10))
	}
	return Amount(strconv.FormatFloat(value.Float(), 'g', -1, value.Type().Bits()))
}

// AmountOfDecimal makes the amount of an exact decimal.
func AmountOfDecimal(number decimal.Decimal) Amount { return Amount(number.String()) }

const (
	amountText   = 2048 // The most bytes of an amount.
	amountPlaces = 12
)

var (
	amountMost    = decimal.New(1, 18)
	amountPattern = regexp.MustCompile(`^([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?$`)

	errAmountLong  = errors.New("amount too long")
	errAmountForm  = errors.New("not an amount")
	errAmountRange = errors.New("amount out of range")
)

// ParseAmount returns what the server takes an amount for, or an error with the words of its error. Sums of such decimals are
// exact.
func ParseAmount(text string) (decimal.Decimal, error) {
	if len(text) > amountText {
		return decimal.Zero, errAmountLong
	}
	match := amountPattern.FindStringSubmatch(text)
	if match == nil {
		return decimal.Zero, errAmountForm
	}
	whole, fraction, _ := strings.Cut(match[2], ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return decimal.Zero, nil
	}
	// The place of the first digit decides whether it is far out of range or far too small, before anything is computed.
	first := exponent(match[3]) + len(digits) - 1 - len(fraction)
	switch {
	case first < -14:
		return decimal.Zero, nil
	case first > 18:
		return decimal.Zero, errAmountRange
	}
	made, err := decimal.NewFromString(digits)
	if err != nil {
		return decimal.Zero, errAmountForm
	}
	made = made.Shift(int32(first - len(digits) + 1)).RoundBank(amountPlaces)
	if made.GreaterThan(amountMost) {
		return decimal.Zero, errAmountRange
	}
	if match[1] == "-" {
		made = made.Neg()
	}
	return made, nil
}

// exponent reads the number after the e. One too long for an integer is as good as a million.
func exponent(text string) int {
	if text == "" {
		return 0
	}
	found, err := strconv.Atoi(text)
	if err != nil || found > 1_000_000 || found < -1_000_000 {
		if strings.HasPrefix(text, "-") && strings.Trim(text, "-0") != "" {
			return -1_000_000
		}
		if strings.Trim(text, "+-0") != "" {
			return 1_000_000
		}
		return 0
	}
	return found
}
