module example.com/gateway

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	redis-gateway/clients/go v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/shopspring/decimal v1.4.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

// The client of this repository: nothing is fetched from anywhere. It is found from this folder; the tests write its whole path.
replace redis-gateway/clients/go => ../../../clients/go
