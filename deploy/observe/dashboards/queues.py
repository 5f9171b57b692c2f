"""Log queues, and what ships them. What a metric means is in docs/src/companion/metrics.md."""

from panels import GREEN_IF_0, dashboard, figure, rate, series

BOARD = dashboard(
    "queues",
    "log queue",
    "Whether log records reach where they are kept, and whether any were lost.",
    {
        "Now": [
            figure(
                "Lost",
                "none",
                "sum(gw_log_dropped_total{}) + sum(gw_log_dead_dropped_total{})",
                "Records dropped since the servers have started.",
                steps=GREEN_IF_0,
            ),
            figure(
                "Pushed back",
                "none",
                "sum(gw_log_rejected_total{})",
                "Records refused because a queue was full.",
                steps=GREEN_IF_0,
            ),
            figure(
                "Dead letters",
                "none",
                'sum(gw_queue_dead_records{role="primary"})',
                "Records that nobody could process.",
                steps=GREEN_IF_0,
            ),
            figure(
                "Oldest record",
                "s",
                'max(gw_queue_oldest_age_seconds{role="primary"})',
                "Since when the oldest record waits.",
                steps=((None, "green"), (60, "orange"), (300, "red")),
            ),
            figure("Clients that wait", "none", 'sum(gw_log_waiting{role="primary"})', "Consumers that wait for records."),
            figure(
                "Feed behind",
                "s",
                'max(gw_feed_lag_seconds{role="primary"})',
                "How long ledgers wait for the database.",
                steps=((None, "green"), (60, "orange"), (300, "red")),
            ),
        ],
        "Queues": [
            series("Waiting", "none", {"{{queue}}": 'gw_queue_length{role="primary"}'}, "Records that wait."),
            series(
                "Leased",
                "none",
                {
                    "{{queue}}": 'gw_queue_leased_records{role="primary"}',
                    "{{queue}}, batches": 'gw_queue_leased_batches{role="primary"}',
                },
                "In the hands of a consumer.",
            ),
            series("Oldest record", "s", {"{{queue}}": 'gw_queue_oldest_age_seconds{role="primary"}'}),
            series("Memory", "bytes", {"{{queue}}": 'gw_queue_memory_bytes{role="primary"}'}),
        ],
        "Records": [
            series(
                "In and out",
                "ops",
                {
                    "pushed": rate("gw_log_pushed_total"),
                    "handed out": rate("gw_log_popped_total"),
                    "acknowledged": rate("gw_log_acked_total"),
                    "handed out again": rate("gw_log_redelivered_total"),
                },
            ),
            series("Pushed by queue", "ops", {"{{queue}}": rate("gw_queue_pushed_total", "queue")}),
            series(
                "Lost or pushed back",
                "ops",
                {
                    "dropped": rate("gw_log_dropped_total"),
                    "rejected": rate("gw_log_rejected_total"),
                    "dead letters dropped": rate("gw_log_dead_dropped_total"),
                    "repeated": rate("gw_log_repeated_total"),
                },
            ),
            series("Dead letters", "none", {"{{queue}}": 'gw_queue_dead_records{role="primary"}'}),
        ],
        "Shipping": [
            series(
                "Behind",
                "s",
                {"{{queue}}": "max by (queue) (gw_ship_lag_seconds{})"},
                "Since when the oldest record waits to be shipped.",
            ),
            series("Not shipped yet", "none", {"{{queue}}": "max by (queue) (gw_ship_waiting_records{})"}),
        ],
    },
    by_node=False,
)
