package commands

import (
	"errors"
	"reflect"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// Amount is an amount of money or of any meter, as a text such as "0.02" or "1500": exact to 12 places, from -10^18 to 10^18. The empty
// text stands for no amount. [AmountOf] turns a number into one.
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
	amountMost = decimal.New(1, 18)

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
	negative, whole, fraction, power, is := amountParts(text)
	if !is {
		return decimal.Zero, errAmountForm
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return decimal.Zero, nil
	}
	// The place of the first digit decides whether it is far out of range or far too small, before anything is computed.
	first := exponent(power) + len(digits) - 1 - len(fraction)
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
	if negative {
		made = made.Neg()
	}
	return made, nil
}

// amountParts takes a text apart; `is` tells whether it has the form of an amount, such as -1.5e3. Each request has several, so no
// regular expression does this.
func amountParts(text string) (negative bool, whole, fraction, power string, is bool) {
	digits := func() string {
		at := 0
		for at < len(text) && '0' <= text[at] && text[at] <= '9' {
			at++
		}
		found := text[:at]
		text = text[at:]
		return found
	}
	sign := func() string {
		if text == "" || text[0] != '+' && text[0] != '-' {
			return ""
		}
		found := text[:1]
		text = text[1:]
		return found
	}
	negative = sign() == "-"
	whole = digits()
	if strings.HasPrefix(text, ".") {
		text = text[1:]
		fraction = digits()
	}
	is = whole != "" || fraction != ""
	if text != "" && (text[0] == 'e' || text[0] == 'E') {
		text = text[1:]
		power = sign()
		number := digits()
		power += number
		is = is && number != ""
	}
	return negative, whole, fraction, power, is && text == ""
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
