package bifrost

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/maximhq/bifrost/core/schemas"

	gateway "redis-gateway/clients/go"
	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

const account = "vk:ada"

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// plugged is a plugin over a gateway, with an account.
func plugged(t *testing.T) (*servers.Server, *gateway.Gateway, schemas.LLMPlugin) {
	t.Helper()
	server := servers.Start(t, servers.Options{})
	gw, err := gateway.New(server.Client(), &gateway.Settings{
		Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	ok(t, err)
	t.Cleanup(func() { gw.Close() })
	_, err = gw.Commands.PolicyPut(t.Context(), account, `{"policies":[
		{"name":"rpm","kind":"window","limit":3,"per_ms":3600000},{"name":"inflight","kind":"inflight","max":1},
		{"name":"tokens","kind":"window","limit":1000,"per_ms":3600000,"meter":"tokens"},
		{"name":"month","kind":"budget","amount":"100","period":"month"}]}`, nil)
	ok(t, err)
	return server, gw, New(gw, Options{
		Estimates: func(*schemas.BifrostContext, *schemas.BifrostRequest) gateway.Amounts {
			return gateway.Amounts{"tokens": "100", "usd": "1"}
		},
	})
}

// requested is a context as Bifrost makes it.
func requested(key string, streams bool) *schemas.BifrostContext {
	ctx := schemas.NewBifrostContext(context.Background(), schemas.NoDeadline)
	ctx.SetValue(schemas.BifrostContextKeyVirtualKey, key)
	if streams {
		ctx.SetValue(schemas.BifrostContextKeyStreamStartTime, time.Now())
	}
	return ctx
}

func answer(tokens int, usd float64) *schemas.BifrostResponse {
	made := &schemas.BifrostResponse{ChatResponse: &schemas.BifrostChatResponse{}}
	if tokens > 0 {
		made.ChatResponse.Usage = &schemas.BifrostLLMUsage{
			PromptTokens: tokens - 1, CompletionTokens: 1, TotalTokens: tokens, Cost: &schemas.BifrostCost{TotalCost: usd},
		}
	}
	return made
}

func admitted(t *testing.T, plugin schemas.LLMPlugin, ctx *schemas.BifrostContext) {
	t.Helper()
	_, refused, err := plugin.PreLLMHook(ctx, &schemas.BifrostRequest{})
	ok(t, err)
	if refused != nil {
		t.Fatal(refused.Error.Error.Message)
	}
}

func after(
	t *testing.T, plugin schemas.LLMPlugin, ctx *schemas.BifrostContext, response *schemas.BifrostResponse, failed *schemas.BifrostError,
) {
	t.Helper()
	_, _, err := plugin.PostLLMHook(ctx, response, failed)
	ok(t, err)
}

func TestRequestsAreAdmittedAndSettled(t *testing.T) {
	server, gw, plugin := plugged(t)
	spent := func(want string) {
		t.Helper()
		found, err := gw.Budgets.Spent(t.Context(), account, commands.PeriodMonth)
		ok(t, err)
		equal(t, found.String(), want)
		described, err := gw.Commands.Describe(t.Context(), account)
		ok(t, err)
		equal(t, described.(commands.AccountState).InFlight, 0)
	}
	ctx := requested(account, false)
	admitted(t, plugin, ctx)
	_, refused, err := plugin.PreLLMHook(requested(account, false), &schemas.BifrostRequest{})
	ok(t, err)
	equal(t, *refused.Error.StatusCode, 429)
	equal(t, *refused.Error.Type, "limit")
	equal(t, *refused.Error.AllowFallbacks, false)
	after(t, plugin, ctx, answer(40, 0.25), nil)
	spent("0.25")
	// A stream is settled at its end.
	ctx = requested(account, true)
	admitted(t, plugin, ctx)
	after(t, plugin, ctx, answer(0, 0), nil)
	equal(t, server.Run("GW.SPENT "+account), any("0.25"))
	ctx.SetValue(schemas.BifrostContextKeyStreamEndIndicator, true)
	after(t, plugin, ctx, answer(60, 0.5), nil)
	spent("0.75")
	// The first try fails before its first piece, and the fallback is served: two attempts, of which one has used something.
	ctx = requested(account, false)
	admitted(t, plugin, ctx)
	after(t, plugin, ctx, nil, &schemas.BifrostError{})
	spent("0.75")
	_, refused, err = plugin.PreLLMHook(ctx, &schemas.BifrostRequest{})
	ok(t, err)
	equal(t, *refused.Error.Type, "limit") // It was the fourth attempt.
	after(t, plugin, ctx, nil, refused.Error)
	spent("0.75")
	server.Run("GW.POLICYSET " + account + " rpm WINDOW 100 PER 3600000")
	// A stream that fails costs its estimate, or what the provider bills.
	for _, one := range []struct {
		billed *schemas.BifrostLLMUsage
		spent  string
	}{{nil, "1.75"}, {answer(7, 0.125).ChatResponse.Usage, "1.875"}} {
		ctx = requested(account, true)
		admitted(t, plugin, ctx)
		after(t, plugin, ctx, answer(0, 0), nil)
		failed := &schemas.BifrostError{}
		failed.ExtraFields.BilledUsage = one.billed
		after(t, plugin, ctx, nil, failed)
		spent(one.spent)
	}
	// One without a virtual key, and one whose call is wrong.
	ctx = requested("", false)
	admitted(t, plugin, ctx)
	after(t, plugin, ctx, answer(5, 5), nil)
	server.Run("SET text x")
	_, refused, err = plugin.PreLLMHook(requested("text", false), &schemas.BifrostRequest{})
	ok(t, err)
	equal(t, *refused.Error.StatusCode, 500)
	spent("1.875")
	server.Stop()
	_, refused, err = plugin.PreLLMHook(requested(account, false), &schemas.BifrostRequest{})
	ok(t, err)
	equal(t, *refused.Error.StatusCode, 503)
	equal(t, plugin.GetName(), "redis-gateway")
	ok(t, plugin.PreRequestHook(ctx, nil))
	ok(t, plugin.Cleanup())
}

func TestUsageOfEachKindOfAnswer(t *testing.T) {
	usage := &schemas.BifrostLLMUsage{TotalTokens: 9, PromptTokens: 5, CompletionTokens: 4}
	responses := &schemas.BifrostResponsesResponse{Usage: &schemas.ResponsesResponseUsage{TotalTokens: 9, InputTokens: 5, OutputTokens: 4}}
	for _, response := range []schemas.BifrostResponse{
		{ChatResponse: &schemas.BifrostChatResponse{Usage: usage}},
		{TextCompletionResponse: &schemas.BifrostTextCompletionResponse{Usage: usage}},
		{EmbeddingResponse: &schemas.BifrostEmbeddingResponse{Usage: usage}},
		{RerankResponse: &schemas.BifrostRerankResponse{Usage: usage}},
		{ResponsesResponse: responses},
		{ResponsesStreamResponse: &schemas.BifrostResponsesStreamResponse{Response: responses}},
		{PassthroughResponse: &schemas.BifrostPassthroughResponse{
			PassthroughUsage: &schemas.BifrostPassthroughUsage{LLMUsage: usage},
		}},
	} {
		_, found := usageOf(&response, nil)
		if found == nil || Used("", *found)["tokens"] != "9" || Used("", *found)["output_tokens"] != "4" {
			t.Errorf("%+v: %+v", response, found)
		}
	}
	for _, response := range []*schemas.BifrostResponse{
		nil, {SpeechResponse: &schemas.BifrostSpeechResponse{}}, {ResponsesResponse: &schemas.BifrostResponsesResponse{}},
	} {
		if _, found := usageOf(response, nil); found != nil {
			t.Errorf("%+v: %+v", response, found)
		}
	}
}
