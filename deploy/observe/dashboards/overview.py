"""The first one to look at. What a metric means is in docs/src/companion/metrics.md."""

from panels import GREEN_IF_0, NEARLY_FULL, RED_IF_0, dashboard, figure, rate, series

BOARD = dashboard(
    "overview",
    "overview",
    "Is everything well, and how much does it do? Begin here.",
    {
        "Now": [
            figure("Nodes up", "none", "sum(gw_up{})", "Nodes that answer.", steps=RED_IF_0),
            figure("Nodes down", "none", "count(gw_up{} == 0) or vector(0)", "Nodes that do not answer.", steps=GREEN_IF_0),
            figure(
                "Jobs in trouble",
                "none",
                "count(gw_job_up{} == 0) or vector(0)",
                "Jobs of the companion that cannot do their work.",
                steps=GREEN_IF_0,
            ),
            figure(
                "Bugs caught", "none", "sum(gw_internal_errors_total{})", "Since the servers have started.", steps=GREEN_IF_0
            ),
            figure(
                "Alerts firing",
                "none",
                'count(ALERTS{alertname=~"Gw.*", alertstate="firing"}) or vector(0)',
                "Alerts of the rules in deploy/observe.",
                steps=GREEN_IF_0,
            ),
            figure(
                "Memory used",
                "percentunit",
                "max(gw_node_memory_used_bytes{} / (gw_node_memory_max_bytes{} > 0)) or vector(0)",
                "Of maxmemory, on the node that is fullest.",
                steps=NEARLY_FULL,
            ),
        ],
        "Decisions": [
            series(
                "Decided",
                "reqps",
                {"admitted": "sum(job:gw_admitted:rate5m{})", "refused": "sum(job:gw_refused:rate5m{})"},
                "Requests admitted and refused by all commands together, over five minutes.",
                stacked=True,
            ),
            series(
                "Refused",
                "percentunit",
                {"{{job}}": "job:gw_refused:ratio5m{}"},
                "Part of the decided requests that was refused.",
                top=1,
            ),
            series(
                "Refused by command",
                "reqps",
                {
                    "GW.ADMIT": rate("gw_admit_denied_total"),
                    "GW.ALLOW": rate("gw_allow_denied_total"),
                    "GW.TOKENS": rate("gw_tokens_denied_total"),
                    "GW.ACQUIRE": rate("gw_leases_denied_total"),
                    "budgets": rate("gw_budget_exceeded_total"),
                    "GW.ROUTE": rate("gw_route_refused_total"),
                },
            ),
            series(
                "Settled",
                "reqps",
                {
                    "in time": rate("gw_settle_done_total"),
                    "late": rate("gw_settle_late_total"),
                    "repeated": rate("gw_settle_repeated_total"),
                    "unknown": rate("gw_settle_unknown_total"),
                },
                "Settlements by outcome. Late: the lease had ended. Unknown: nothing was charged.",
            ),
        ],
        "Commands": [
            series("Calls", "ops", {"{{command}}": rate("gw_command_calls_total", "command")}),
            series(
                "Time per call",
                "s",
                {"{{command}}": "job_command:gw_command_seconds:mean5m{}"},
                "Mean time that the server spends in a call, over five minutes.",
            ),
            series(
                "Refused by the server",
                "ops",
                {"{{command}}": rate("gw_command_rejected_total", "command")},
                "Before the command ran: a right is missing, or the memory is full.",
            ),
            series("Answered with an error", "ops", {"{{command}}": rate("gw_command_failed_total", "command")}),
        ],
        "Companion": [
            series("Jobs", "none", {"{{job}} {{exported_job}}": "gw_job_up{}"}, "1 if the job does its work.", top=1),
            series(
                "Restarts of jobs",
                "none",
                {"{{job}} {{exported_job}}": "increase(gw_job_restarts_total{}[1h])"},
                "In the last hour.",
            ),
        ],
    },
    by_node=False,
)
