"""Customers: what they use, and what refuses them. What a metric means is in docs/src/companion/metrics.md."""

from panels import NEARLY_FULL, bars, dashboard, rate, series

BOARD = dashboard(
    "tenants",
    "tenants and budgets",
    "Who uses what, whose budget runs out, and who is refused. Which keys are shown is set in the companion's [metrics].",
    {
        "Budgets": [
            bars(
                "Used",
                "percentunit",
                {"{{account}} {{policy}}": "topk(20, gw_budget_used_ratio{})"},
                "The used part of each budget.",
                steps=NEARLY_FULL,
                top=1,
            ),
            bars(
                "Burn",
                "none",
                {"{{account}} {{policy}}": "topk(20, gw_budget_used_ratio{} / (gw_budget_elapsed_ratio{} > 0))"},
                "The used part divided by the elapsed part of the period: from 1 on, the budget ends before its period.",
                steps=((None, "green"), (1, "orange"), (1.5, "red")),
            ),
            series("Used over time", "percentunit", {"{{account}} {{policy}}": "gw_budget_used_ratio{}"}),
            series(
                "Holds",
                "reqps",
                {
                    "made": rate("gw_budget_holds_total"),
                    "committed": rate("gw_budget_commits_total"),
                    "cancelled": rate("gw_budget_cancels_total"),
                },
                "What is made and neither committed nor cancelled expires.",
            ),
            series(
                "Charges",
                "ops",
                {
                    "charges": rate("gw_budget_charges_total"),
                    "refunds": rate("gw_budget_refunds_total"),
                    "credits": rate("gw_budget_credits_total"),
                    "repeated": rate("gw_budget_repeated_total"),
                },
            ),
            series(
                "Answers about budgets",
                "reqps",
                {
                    "within": rate("gw_budget_within_total"),
                    "exceeded": rate("gw_budget_exceeded_total"),
                    "soft limit reached": rate("gw_admit_soft_total"),
                },
            ),
        ],
        "Policies": [
            series(
                "Used of each limit",
                "percentunit",
                {"{{account}} {{policy}}": "gw_policy_used{} / (gw_policy_limit{} > 0)"},
                top=1,
            ),
            series("Refused by policy", "reqps", {"{{account}} {{policy}}": rate("gw_policy_denied_total", "account, policy")}),
            series(
                "Shut",
                "none",
                {"{{account}} {{policy}}": "1 - gw_policy_allows{}"},
                "1 while the policy would refuse a request.",
                top=1,
            ),
            series("Until the limit is free again", "s", {"{{account}} {{policy}}": "gw_policy_reset_seconds{}"}),
        ],
        "Heaviest keys": [
            bars(
                "Used most, last hour",
                "none",
                {"{{key}} {{meter}}": 'topk(15, max by (key, meter) (gw_top_used{window="hour"}))'},
                "In the meter's unit, at most.",
            ),
            bars(
                "Refused most, last hour",
                "none",
                {"{{key}} {{by}}": 'topk(15, max by (key, by) (gw_top_denied{window="hour"}))'},
                "Refusals, at most.",
            ),
        ],
        "Gateways": [
            series(
                "Admissions with a flaw",
                "reqps",
                {
                    "no such account": rate("gw_admit_no_account_total"),
                    "meter not named": rate("gw_admit_meter_unnamed_total"),
                    "lease has ended": rate("gw_admit_lease_ended_total"),
                    "repeated": rate("gw_admit_repeated_total"),
                    "would be refused": rate("gw_admit_would_deny_total"),
                },
            ),
            series(
                "Routing",
                "reqps",
                {
                    "routed": rate("gw_route_picked_total"),
                    "refused by all": rate("gw_route_refused_total"),
                    "repeated": rate("gw_route_repeated_total"),
                    "no such target": rate("gw_route_no_account_total"),
                },
            ),
            series(
                "Breakers",
                "reqps",
                {
                    "opened": rate("gw_breaker_opened_total"),
                    "closed": rate("gw_breaker_closed_total"),
                    "probes": rate("gw_breaker_probes_total"),
                    "cooldowns": rate("gw_cooldowns_total"),
                },
            ),
            series(
                "Slots",
                "reqps",
                {
                    "taken": rate("gw_leases_acquired_total"),
                    "refused": rate("gw_leases_denied_total"),
                    "waited": rate("gw_leases_waited_total"),
                },
            ),
        ],
    },
)
