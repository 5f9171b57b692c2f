"""The servers themselves. What a metric means is in docs/src/companion/metrics.md."""

from panels import Panel, dashboard, rate, series

BOARD = dashboard(
    "nodes",
    "nodes",
    "The servers themselves: memory, replication, persistence, versions.",
    {
        "Nodes": [
            Panel("table", "Versions", "", "none", {"": "gw_node_info{}"}),
            series("Up", "none", {"{{node}} {{role}}": "gw_up{}"}, top=1),
            series("Uptime", "s", {"{{node}}": "gw_node_uptime_seconds{}"}),
            series("Clients", "none", {"{{node}}": "gw_node_clients{}"}),
            series("Answer to a scrape", "s", {"{{node}}": "gw_scrape_duration_seconds{}"}),
        ],
        "Memory": [
            series("Used", "bytes", {"{{node}}": "gw_node_memory_used_bytes{}"}),
            series(
                "Used of maxmemory",
                "percentunit",
                {"{{node}}": "gw_node_memory_used_bytes{} / (gw_node_memory_max_bytes{} > 0)"},
                "Of the nodes that have a maxmemory.",
                top=1,
            ),
            series(
                "Evicted",
                "ops",
                {"{{node}}": rate("gw_node_evicted_keys_total", "node")},
                "Keys evicted because the memory was full.",
            ),
            series("Lists of GW.TOP", "bytes", {"{{node}}": "gw_top_bytes{}"}),
        ],
        "Replication and persistence": [
            series("Link to the primary", "none", {"{{node}}": "gw_node_replication_link_up{}"}, "1 if it stands.", top=1),
            series("Heard of the primary", "s", {"{{node}}": "gw_node_replication_last_io_seconds{}"}, "How long ago."),
            series(
                "Written",
                "Bps",
                {"{{node}} {{role}}": "rate(gw_node_replication_offset_bytes{}[$__rate_interval])"},
                "Growth of the stream of changes.",
            ),
            series("Replicas", "none", {"{{node}}": "gw_node_replicas{}"}, "Connected replicas of each primary."),
            series(
                "Persistence",
                "none",
                {"{{node}} append-only file": "gw_node_aof_ok{}", "{{node}} snapshot": "gw_node_rdb_ok{}"},
                "1 if the last write has worked.",
                top=1,
            ),
        ],
        "Work": [
            series("Calls", "ops", {"{{node}}": rate("gw_command_calls_total", "node")}),
            series(
                "Busy with the module's commands",
                "percentunit",
                {"{{node}}": rate("gw_command_seconds_total", "node")},
                "Part of one core.",
            ),
            series(
                "Clients that wait",
                "none",
                {
                    "{{node}} slots": "gw_leases_waiting{}",
                    "{{node}} records": "gw_log_waiting{}",
                    "{{node}} values": "gw_cache_waiting{}",
                },
            ),
        ],
    },
)
