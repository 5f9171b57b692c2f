// Package bifrost admits the requests of a Bifrost that runs in your program, and settles them at what they have used.
//
//	client, err := core.Init(ctx, schemas.BifrostConfig{
//		Account:    account,
//		LLMPlugins: []schemas.LLMPlugin{bifrost.New(gw, bifrost.Options{Estimates: estimates})},
//	})
//
// It is for those who build Bifrost into a program of theirs: its ready-made images load no plugins of others.
package bifrost

import (
	"errors"
	"sync"

	"github.com/maximhq/bifrost/core/schemas"

	gateway "redis-gateway/clients/go"
)

// Options are what [New] may be told. What is nil has its default.
type Options struct {
	// Accounts finds a request's accounts. None: the request passes, without an admission. Default: one, the virtual key, which is
	// none for a request without one.
	Accounts func(*schemas.BifrostContext, *schemas.BifrostRequest) []string

	// Estimates are what a request will probably use, by meter. Default: nothing but the request itself.
	Estimates func(*schemas.BifrostContext, *schemas.BifrostRequest) gateway.Amounts

	// Used is what a usage comes to, by meter, for the model that has served it. Default: [Used].
	Used func(model string, usage schemas.BifrostLLMUsage) gateway.Amounts

	// Admit are the options of the admissions.
	Admit *gateway.AdmitOptions
}

// Used are the meters tokens, input_tokens and output_tokens, and usd if the provider tells the cost.
func Used(_ string, usage schemas.BifrostLLMUsage) gateway.Amounts {
	made := gateway.Amounts{
		"tokens":       gateway.AmountOf(usage.TotalTokens),
		"input_tokens": gateway.AmountOf(usage.PromptTokens), "output_tokens": gateway.AmountOf(usage.CompletionTokens),
	}
	if usage.Cost != nil {
		made["usd"] = gateway.AmountOf(usage.Cost.TotalCost)
	}
	return made
}

type plugin struct {
	gw      *gateway.Gateway
	options Options
}

// New makes a plugin. The gateway is yours: Bifrost's shutdown does not close it.
//
// A request that is denied ends with status 429, 403 or 503, the reason as its type, and without a try at Bifrost's fallbacks. Each
// fallback of an admitted request is an attempt with an admission of its own. One that fails before its first piece counts as a request
// that used nothing, unless the provider bills it. If nobody tells what was used, as of speech and images, the estimates stay.
func New(gw *gateway.Gateway, options Options) schemas.LLMPlugin {
	if options.Accounts == nil {
		options.Accounts = func(ctx *schemas.BifrostContext, _ *schemas.BifrostRequest) []string {
			if key, _ := ctx.Value(schemas.BifrostContextKeyVirtualKey).(string); key != "" {
				return []string{key}
			}
			return nil
		}
	}
	if options.Estimates == nil {
		options.Estimates = func(*schemas.BifrostContext, *schemas.BifrostRequest) gateway.Amounts { return nil }
	}
	if options.Used == nil {
		options.Used = Used
	}
	return &plugin{gw, options}
}

func (*plugin) GetName() string { return "redis-gateway" }

func (*plugin) Cleanup() error { return nil }

func (*plugin) PreRequestHook(*schemas.BifrostContext, *schemas.BifrostRequest) error { return nil }

// attempt is what the hooks of one attempt share.
type attempt struct {
	admission *gateway.Admission
	mutex     sync.Mutex
	answered  bool // A piece of the answer was passed on.
}

// attemptKey is where a request's context has it.
type attemptKey struct{ of *plugin }

func (p *plugin) PreLLMHook(
	scoped *schemas.BifrostContext, request *schemas.BifrostRequest,
) (*schemas.BifrostRequest, *schemas.LLMPluginShortCircuit, error) {
	ctx := scoped.Root() // The other one is used again when this returns.
	ctx.ClearValue(attemptKey{p})
	accounts := p.options.Accounts(ctx, request)
	if len(accounts) == 0 {
		return request, nil, nil
	}
	admission, err := p.gw.Admit(ctx, accounts, p.options.Estimates(ctx, request), p.options.Admit)
	if err != nil {
		return request, refusal(500, "not_admitted", err), nil // Bifrost would go on after an error of the hook.
	}
	if !admission.OK() {
		return request, refusal(admission.StatusCode(), admission.Reason(), admission.Err()), nil
	}
	ctx.SetValue(attemptKey{p}, &attempt{admission: admission})
	return request, nil, nil
}

func refusal(status int, reason string, err error) *schemas.LLMPluginShortCircuit {
	fallbacks := false
	return &schemas.LLMPluginShortCircuit{Error: &schemas.BifrostError{
		Type: &reason, StatusCode: &status, AllowFallbacks: &fallbacks,
		Error: &schemas.ErrorField{Type: &reason, Message: err.Error(), Error: err},
	}}
}

// PostLLMHook is called once for an answer, and for each piece of one that is streamed.
func (p *plugin) PostLLMHook(
	scoped *schemas.BifrostContext, response *schemas.BifrostResponse, failed *schemas.BifrostError,
) (*schemas.BifrostResponse, *schemas.BifrostError, error) {
	ctx := scoped.Root()
	own, is := ctx.Value(attemptKey{p}).(*attempt)
	if !is {
		return response, failed, nil
	}
	model, usage := usageOf(response, failed)
	own.mutex.Lock()
	own.answered = own.answered || failed == nil && response != nil
	answered := own.answered
	own.mutex.Unlock()
	var wrong error
	if usage != nil {
		wrong = own.admission.Use(p.options.Used(model, *usage))
	}
	streams := ctx.Value(schemas.BifrostContextKeyStreamStartTime) != nil
	last, _ := ctx.Value(schemas.BifrostContextKeyStreamEndIndicator).(bool)
	if streams && !last && failed == nil {
		return response, failed, wrong
	}
	if failed != nil && usage == nil && !answered {
		own.admission.Unused()
	}
	_, err := own.admission.Settle(ctx)
	return response, failed, errors.Join(wrong, err)
}

// usageOf is the model that has answered, and what it has used; nil if that is not known.
func usageOf(response *schemas.BifrostResponse, failed *schemas.BifrostError) (string, *schemas.BifrostLLMUsage) {
	if failed != nil {
		return failed.ExtraFields.RoutingInfo.Model, failed.ExtraFields.BilledUsage
	}
	if response == nil {
		return "", nil
	}
	model := response.GetExtraFields().RoutingInfo.Model
	switch {
	case response.ChatResponse != nil:
		return model, response.ChatResponse.Usage
	case response.TextCompletionResponse != nil:
		return model, response.TextCompletionResponse.Usage
	case response.EmbeddingResponse != nil:
		return model, response.EmbeddingResponse.Usage
	case response.RerankResponse != nil:
		return model, response.RerankResponse.Usage
	case response.ResponsesResponse != nil:
		return model, ofResponses(response.ResponsesResponse.Usage)
	case response.ResponsesStreamResponse != nil && response.ResponsesStreamResponse.Response != nil:
		return model, ofResponses(response.ResponsesStreamResponse.Response.Usage)
	case response.PassthroughResponse != nil && response.PassthroughResponse.PassthroughUsage != nil:
		return model, response.PassthroughResponse.PassthroughUsage.LLMUsage
	}
	return model, nil
}

func ofResponses(usage *schemas.ResponsesResponseUsage) *schemas.BifrostLLMUsage {
	if usage == nil {
		return nil
	}
	return &schemas.BifrostLLMUsage{
		PromptTokens: usage.InputTokens, CompletionTokens: usage.OutputTokens, TotalTokens: usage.TotalTokens, Cost: usage.Cost,
	}
}
