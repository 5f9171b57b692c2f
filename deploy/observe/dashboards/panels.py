"""What the dashboards are made of: panels with queries, in rows, over one Prometheus.

A query is written with the selectors that it is about, `gw_up{role="primary"}`. The chosen jobs and nodes are added here, so
that no panel forgets them.
"""

import re
from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
# Colours from a value on.
GREEN_IF_0 = ((None, "green"), (1, "red"))
RED_IF_0 = ((None, "red"), (1, "green"))
NEARLY_FULL = ((None, "green"), (0.8, "orange"), (1, "red"))
# Of the 24 columns of Grafana's grid.
WIDTHS = {"stat": 4, "series": 12, "bars": 12, "table": 24}


@dataclass(frozen=True)
class Panel:
    """A panel: `queries` by the legend of what each shows, the unit by Grafana's name."""

    kind: str
    title: str
    help: str
    unit: str
    queries: dict[str, str]
    # A colour from a value on, the first from the beginning.
    steps: tuple[tuple[float | None, str], ...] = ()
    stacked: bool = False
    # At most this value: 1 for a part of something.
    top: float | None = None

    def build(self, by_node: bool):
        panel = {"stat": stat, "series": timeseries, "bars": bargauge, "table": table}[self.kind].Panel()
        panel.title(self.title).description(self.help).unit(self.unit).datasource(SOURCE)
        panel.span(WIDTHS[self.kind]).height(HEIGHT if self.kind != "stat" else 4)
        for number, (legend, query) in enumerate(self.queries.items()):
            target = prometheus.Dataquery().expr(select(query, by_node)).legend_format(legend)
            target.ref_id("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number]).datasource(SOURCE)
            if self.kind == "series":
                target.range()
            else:
                target.instant()
            if self.kind == "table":
                target.format("table")
            panel.with_target(target)
        if self.steps:
            steps = [model.Threshold(value=value, color=color) for value, color in self.steps]
            panel.thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        if self.kind == "series":
            panel.min(0).fill_opacity(10).show_points(common_model.VisibilityMode.NEVER)
            legend = common.VizLegendOptions().display_mode(common_model.LegendDisplayMode.TABLE)
            panel.legend(legend.placement(common_model.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]).show_legend(True))
            panel.tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
            if self.stacked:
                panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
        if self.top is not None:
            panel.max(self.top)
        return panel


def select(query: str, by_node: bool) -> str:
    """Adds the chosen jobs and nodes to the braces behind each metric of this project."""

    def narrowed(found: re.Match) -> str:
        metric, labels = found.groups()
        chosen = ['job=~"$job"']
        # What a rule has recorded is of all nodes together.
        if by_node and ":" not in metric:
            chosen.append('node=~"$node"')
        return f"{metric}{{{', '.join(chosen + [labels] * bool(labels))}}}"

    return re.sub(r"([a-z_:]*\bgw_[a-z0-9_:]+)\{([^}]*)\}", narrowed, query)


def rate(metric: str, by: str = "") -> str:
    """The increase per second of a counter, of all nodes together or by a label."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({metric}{{}}[$__rate_interval]))"


def series(title: str, unit: str, queries: dict[str, str], help: str = "", **more) -> Panel:
    return Panel("series", title, help, unit, queries, **more)


def figure(title: str, unit: str, query: str, help: str = "", **more) -> Panel:
    return Panel("stat", title, help, unit, {"": query}, **more)


def bars(title: str, unit: str, queries: dict[str, str], help: str = "", **more) -> Panel:
    return Panel("bars", title, help, unit, queries, **more)


def variable(name: str, label: str, query: str):
    values = (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    return values.include_all(True).multi(True).all_value(".*").current(model.VariableOption(text="All", value="$__all"))


def dashboard(name: str, title: str, help: str, rows: dict[str, list[Panel]], by_node: bool = True):
    board = build.Dashboard(f"redis-gateway: {title}").uid(f"redis-gateway-{name}").description(help).tags(["redis-gateway"])
    board.refresh("30s").time("now-1h", "now").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR).readonly()
    board.with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    board.with_variable(variable("job", "Job", "label_values(gw_build_info, job)"))
    if by_node:
        board.with_variable(variable("node", "Node", 'label_values(gw_up{job=~"$job"}, node)'))
    link = build.DashboardLink("Other dashboards").type(model.DashboardLinkType.DASHBOARDS).tags(["redis-gateway"])
    board.link(link.as_dropdown(True).keep_time(True).include_vars(True))
    for row, panels in rows.items():
        board.with_row(build.Row(row))
        for panel in panels:
            board.with_panel(panel.build(by_node))
    return board
