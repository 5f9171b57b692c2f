package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"redis-gateway/clients/go/internal/servers"
)

func TestMiddleware(t *testing.T) {
	server, gw := started(t, patient())
	policies(t, gw, "user:a", `{"policies":[{"name":"rpm","kind":"window","limit":2,"per_ms":60000},
		{"name":"month","kind":"budget","amount":"100","period":"month"}]}`)
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		admission := AdmissionOf(request.Context())
		if admission == nil {
			fmt.Fprint(writer, "free")
			return
		}
		admission.Use(Amounts{"usd": "0.25"})
		if request.URL.Path == "/panics" {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(writer, "paid")
	})
	web := httptest.NewServer(gw.Middleware(MiddlewareOptions{
		Accounts: func(request *http.Request) []string {
			if user := request.Header.Get("User"); user != "" {
				return []string{"user:" + user}
			}
			return nil
		},
		Estimates: func(*http.Request) Amounts { return Amounts{"usd": "1"} },
	}, handler))
	defer web.Close()
	get := func(path, user string) (*http.Response, string) {
		request := must(http.NewRequest("GET", web.URL+path, nil))(t)
		request.Header.Set("User", user)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, ""
		}
		defer response.Body.Close()
		return response, string(must(io.ReadAll(response.Body))(t))
	}
	response, body := get("/", "")
	equal(t, fmt.Sprint(response.StatusCode, body, response.Header.Get("RateLimit")), "200free")
	response, body = get("/", "a")
	equal(t, fmt.Sprint(response.StatusCode, body), "200paid")
	equal(t, response.Header.Get("RateLimit-Policy"), `"rpm";q=2;w=60`)
	get("/panics", "a")
	servers.Eventually(t, "both are settled", func() bool { return spentOf(t, gw, "user:a") == "0.5" })
	response, body = get("/", "a")
	equal(t, response.StatusCode, 429)
	equal(t, response.Header.Get("Retry-After") != "", true)
	var told map[string]struct {
		Type         string
		RetryAfterMs int64 `json:"retry_after_ms"`
	}
	ok(t, json.Unmarshal([]byte(body), &told))
	equal(t, told["error"].Type, ReasonLimit)
	equal(t, told["error"].RetryAfterMs > 0, true)
	wrongType(server, "user:b")
	response, _ = get("/", "b")
	equal(t, response.StatusCode, 500)
	if AdmissionOf(context.Background()) != nil {
		t.Error("there is an admission")
	}
	if figures := gw.Figures().String(); !strings.Contains(figures, "settlements{outcome=settled} 2") {
		t.Error(figures)
	}
}
