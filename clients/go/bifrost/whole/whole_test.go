// Package whole runs the plugin in all of Bifrost, before a provider of its own: the hooks are called by whom they are made for.
package whole

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/maximhq/bifrost/core"
	"github.com/maximhq/bifrost/core/schemas"

	gateway "redis-gateway/clients/go"
	"redis-gateway/clients/go/bifrost"
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

// deployments is an account of Bifrost: OpenAI's provider, and one that is called Groq, which speaks the same.
type deployments struct {
	urls map[schemas.ModelProvider]string
}

func (d deployments) GetConfiguredProviders() ([]schemas.ModelProvider, error) {
	var providers []schemas.ModelProvider
	for provider := range d.urls {
		providers = append(providers, provider)
	}
	return providers, nil
}

func (d deployments) GetKeysForProvider(_ context.Context, provider schemas.ModelProvider) ([]schemas.Key, error) {
	return []schemas.Key{{
		ID: string(provider), Name: string(provider), Value: *schemas.NewSecretVar("none"), Weight: 1, Models: schemas.WhiteList{"*"},
	}}, nil
}

func (d deployments) GetConfigForProvider(provider schemas.ModelProvider) (*schemas.ProviderConfig, error) {
	return &schemas.ProviderConfig{
		NetworkConfig: schemas.NetworkConfig{
			BaseURL: d.urls[provider], DefaultRequestTimeoutInSeconds: 60, AllowPrivateNetwork: true,
		},
		ConcurrencyAndBufferSize: schemas.ConcurrencyAndBufferSize{Concurrency: 4, BufferSize: 16},
	}, nil
}

// provider answers as OpenAI's API does, with 40 tokens; it fails for as long as it is told to.
type provider struct {
	fails atomic.Bool
	calls atomic.Int64
}

const usage = `{"prompt_tokens":30,"completion_tokens":10,"total_tokens":40}`

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.calls.Add(1)
	var asked struct {
		Stream bool `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch {
	case p.fails.Load():
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"error":{"message":"down","type":"server_error"}}`)
	case asked.Stream:
		w.Header().Set("Content-Type", "text/event-stream")
		for _, piece := range []string{
			`{"id":"1","object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}`,
			`{"id":"1","object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}`,
			`{"id":"1","object":"chat.completion.chunk","model":"small","choices":[],"usage":` + usage + `}`,
			`[DONE]`,
		} {
			fmt.Fprintf(w, "data: %s\n\n", piece)
			w.(http.Flusher).Flush()
		}
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","model":"small","choices":[{"index":0,"finish_reason":"stop",
			"message":{"role":"assistant","content":"Hello"}}],"usage":`+usage+`}`)
	}
}

type world struct {
	client          *core.Bifrost
	gw              *gateway.Gateway
	first, fallback *provider
}

// started is a Bifrost with the plugin, two providers, and an account of 4 requests and 1000 tokens an hour.
func started(t *testing.T) *world {
	t.Helper()
	gw, err := gateway.New(servers.Start(t, servers.Options{}).Client(), &gateway.Settings{
		Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	ok(t, err)
	t.Cleanup(func() { gw.Close() })
	_, err = gw.Commands.PolicyPut(t.Context(), account, `{"policies":[
		{"name":"rpm","kind":"window","limit":4,"per_ms":3600000},{"name":"inflight","kind":"inflight","max":1},
		{"name":"tokens","kind":"window","limit":1000,"per_ms":3600000,"meter":"tokens"}]}`, nil)
	ok(t, err)
	made := &world{gw: gw, first: &provider{}, fallback: &provider{}}
	urls := map[schemas.ModelProvider]string{}
	for name, handler := range map[schemas.ModelProvider]*provider{schemas.OpenAI: made.first, schemas.Groq: made.fallback} {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		urls[name] = server.URL
	}
	made.client, err = core.Init(t.Context(), schemas.BifrostConfig{
		Account: deployments{urls},
		Logger:  core.NewDefaultLogger(schemas.LogLevelError),
		LLMPlugins: []schemas.LLMPlugin{bifrost.New(gw, bifrost.Options{
			Estimates: func(*schemas.BifrostContext, *schemas.BifrostRequest) gateway.Amounts {
				return gateway.Amounts{"tokens": "100"}
			},
		})},
	})
	ok(t, err)
	t.Cleanup(made.client.Shutdown)
	return made
}

func requested() *schemas.BifrostContext {
	ctx := schemas.NewBifrostContext(context.Background(), schemas.NoDeadline)
	ctx.SetValue(schemas.BifrostContextKeyVirtualKey, account)
	return ctx
}

func request() *schemas.BifrostChatRequest {
	text := "Hi"
	return &schemas.BifrostChatRequest{
		Provider: schemas.OpenAI, Model: "small",
		Input:     []schemas.ChatMessage{{Role: schemas.ChatMessageRoleUser, Content: &schemas.ChatMessageContent{ContentStr: &text}}},
		Fallbacks: []schemas.Fallback{{Provider: schemas.Groq, Model: "small"}},
	}
}

// counted waits until nothing is in flight, and tests what is charged.
func (w *world) counted(t *testing.T, requests, tokens string) {
	t.Helper()
	for ; ; time.Sleep(time.Millisecond) {
		described, err := w.gw.Commands.Describe(t.Context(), account)
		ok(t, err)
		state := described.(commands.AccountState)
		if state.InFlight > 0 {
			continue
		}
		equal(t, fmt.Sprint(state.Counts["rpm"]), requests)
		equal(t, fmt.Sprint(state.Counts["tokens"]), tokens)
		return
	}
}

func TestAnAnswerIsChargedForWhatItUsed(t *testing.T) {
	w := started(t)
	response, failed := w.client.ChatCompletionRequest(requested(), request())
	if failed != nil {
		t.Fatal(failed.Error.Message)
	}
	equal(t, response.Usage.TotalTokens, 40)
	w.counted(t, "1", "40")
}

func TestAStreamIsChargedAtItsEnd(t *testing.T) {
	w := started(t)
	pieces, failed := w.client.ChatCompletionStreamRequest(requested(), request())
	if failed != nil {
		t.Fatal(failed.Error.Message)
	}
	text := ""
	for piece := range pieces {
		if piece.BifrostError != nil {
			t.Fatal(piece.BifrostError.Error.Message)
		}
		for _, choice := range piece.BifrostChatResponse.Choices {
			if delta := choice.ChatStreamResponseChoice; delta != nil && delta.Delta.Content != nil {
				text += *delta.Delta.Content
			}
		}
	}
	equal(t, text, "Hello")
	w.counted(t, "1", "40")
}

func TestAFallbackIsAnAttemptOfItsOwn(t *testing.T) {
	w := started(t)
	w.first.fails.Store(true)
	response, failed := w.client.ChatCompletionRequest(requested(), request())
	if failed != nil {
		t.Fatal(failed.Error.Message)
	}
	equal(t, response.Usage.TotalTokens, 40)
	equal(t, w.fallback.calls.Load(), 1)
	// Two attempts, of which one has used something.
	w.counted(t, "2", "40")
	w.fallback.fails.Store(true)
	_, failed = w.client.ChatCompletionRequest(requested(), request())
	equal(t, failed != nil, true)
	w.counted(t, "4", "40")
}

func TestWhoIsOverTheLimitReachesNoProvider(t *testing.T) {
	w := started(t)
	for range 4 {
		if _, failed := w.client.ChatCompletionRequest(requested(), request()); failed != nil {
			t.Fatal(failed.Error.Message)
		}
	}
	_, failed := w.client.ChatCompletionRequest(requested(), request())
	equal(t, *failed.StatusCode, http.StatusTooManyRequests)
	equal(t, *failed.Type, "limit")
	_, failed = w.client.ChatCompletionStreamRequest(requested(), request())
	equal(t, *failed.StatusCode, http.StatusTooManyRequests)
	equal(t, w.first.calls.Load(), 4)
	equal(t, w.fallback.calls.Load(), 0)
	w.counted(t, "4", "160")
}
