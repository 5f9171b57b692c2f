module redis-gateway/clients/go

go 1.25

require (
	// The client that the application has: the gateway makes clients of its own with that one's options.
	github.com/redis/go-redis/v9 v9.17.3
	// Amounts are exact decimals. It keeps all digits without a precision that one could forget to set.
	github.com/shopspring/decimal v1.4.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
)
