package gateway

import (
	"context"
	"encoding/json"
	"net/http"

	"redis-gateway/clients/go/commands"
)

// MiddlewareOptions are what [Middleware] is told.
type MiddlewareOptions struct {
	// Accounts finds a request's accounts. None: the request passes, without an admission.
	Accounts func(*http.Request) []string

	// Estimates are what the request will probably use, by meter. It may be nil.
	Estimates func(*http.Request) Amounts

	// Admit are the options of its admission. They may be nil.
	Admit *AdmitOptions

	// Headers are the options of the response's headers. They may be nil.
	Headers *commands.HeaderOptions
}

type admissionKey struct{}

// AdmissionOf is the admission of a request that [Middleware] has let pass; nil if it has none. The handler tells it what was used, or
// the meters keep their estimates.
func AdmissionOf(ctx context.Context) *Admission {
	found, _ := ctx.Value(admissionKey{}).(*Admission)
	return found
}

// Middleware asks for each request before the handler sees it.
//
// A denied request is answered here, with status 429, 403 or 503 and the headers that say when to come back. Others get the headers,
// too. They are settled when the handler has ended, also if it panics or its client leaves. If the call itself is wrong, the status is
// 500.
func (g *Gateway) Middleware(options MiddlewareOptions, next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		accounts := options.Accounts(request)
		if len(accounts) == 0 {
			next.ServeHTTP(writer, request)
			return
		}
		var estimates Amounts
		if options.Estimates != nil {
			estimates = options.Estimates(request)
		}
		ctx := request.Context()
		admission, err := g.Admit(ctx, accounts, estimates, options.Admit)
		if err != nil {
			if ctx.Err() == nil {
				g.core.settings.Logger.Error("a request could not be admitted", "error", err)
				http.Error(writer, "the request could not be admitted", http.StatusInternalServerError)
			}
			return
		}
		// A settlement that the server refuses is counted and logged: the response is under way.
		defer admission.settleLoudly()
		for name, value := range admission.Headers(options.Headers) {
			writer.Header().Set(name, value)
		}
		if !admission.OK() {
			refuse(writer, admission)
			return
		}
		next.ServeHTTP(writer, request.WithContext(context.WithValue(ctx, admissionKey{}, admission)))
	})
}

func refuse(writer http.ResponseWriter, admission *Admission) {
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(admission.StatusCode())
	type refusal struct {
		Type         string `json:"type"`
		RetryAfterMs int64  `json:"retry_after_ms"`
	}
	json.NewEncoder(writer).Encode(map[string]refusal{"error": {admission.Reason(), msOf(admission.RetryAfter())}})
}
