"""The cache, by category. What a metric means is in docs/src/companion/metrics.md."""

from panels import dashboard, rate, series

BOARD = dashboard(
    "cache",
    "cache",
    "What the cache saves, and where it misses.",
    {
        "Reads": [
            series(
                "Hits",
                "percentunit",
                {"{{category}}": "job_category:gw_cache_hits:ratio5m{}"},
                "Part of the reads that found a value, stale ones included, over five minutes.",
                top=1,
            ),
            series(
                "Reads",
                "ops",
                {
                    "fresh": rate("gw_cache_hits_total"),
                    "stale": rate("gw_cache_stale_hits_total"),
                    "missed": rate("gw_cache_misses_total"),
                    "being computed": rate("gw_cache_pending_total"),
                },
                stacked=True,
            ),
            series(
                "Saved",
                "none",
                {"{{category}}": "sum by (category) (increase(gw_cache_category_saved_total{}[1h]))"},
                "In the last hour, in the unit that entries name with SAVED.",
            ),
            series("Missed by category", "ops", {"{{category}}": rate("gw_cache_category_misses_total", "category")}),
        ],
        "Entries": [
            series(
                "Entries",
                "none",
                {"{{category}}": 'sum by (category) (gw_cache_category_entries{role="primary"})'},
                stacked=True,
            ),
            series(
                "Stored",
                "bytes",
                {"{{category}}": 'sum by (category) (gw_cache_category_stored_bytes{role="primary"})'},
                stacked=True,
            ),
            series(
                "Compressed to",
                "percentunit",
                {
                    "{{category}}": 'sum by (category) (gw_cache_category_stored_bytes{role="primary"})'
                    ' / (sum by (category) (gw_cache_category_raw_bytes{role="primary"}) > 0)'
                },
                "Stored bytes divided by those of the values.",
                top=1,
            ),
            series(
                "Set and gone",
                "ops",
                {
                    "set": rate("gw_cache_sets_total"),
                    "deleted": rate("gw_cache_deletes_total"),
                    "cleared": rate("gw_cache_cleared_total"),
                    "lived to their end": rate("gw_cache_category_expired_total"),
                    "evicted, of all keys": rate("gw_node_evicted_keys_total"),
                },
            ),
        ],
        "Single flight": [
            series(
                "Fill leases",
                "ops",
                {
                    "given": rate("gw_cache_leader_grants_total"),
                    "given up": rate("gw_cache_releases_total"),
                    "waited in vain": rate("gw_cache_wait_timeouts_total"),
                },
            ),
            series(
                "Now",
                "none",
                {
                    "fill leases in force": 'sum(gw_cache_fill_leases{role="primary"})',
                    "clients that wait": 'sum(gw_cache_waiting{role="primary"})',
                },
            ),
            series(
                "Waits in vain",
                "percentunit",
                {
                    "{{category}}": rate("gw_cache_category_wait_timeouts_total", "category")
                    + f" / ({rate('gw_cache_category_pending_total', 'category')} > 0)"
                },
                "Part of the reads that found another client's fill lease and ended without a value.",
                top=1,
            ),
            series("Errors", "ops", {"{{category}}": rate("gw_cache_category_errors_total", "category")}),
        ],
    },
)
