"""The Prometheus metrics of a process, of the API, and of the gauges that `/metrics` shows."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import api.gauges
import api.metrics
import config.metrics
from tests.contract.reference import source
from tests.contract.reference.markdown import code, codes, heading, items, page, prose, table

MODULES = (config.metrics, api.metrics, api.gauges)
PREFIX = "penstock_"
TYPES = ("counter", "gauge", "histogram")


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    type: str
    help: str
    labels: tuple[str, ...]
    buckets: str


def metrics_page() -> str:
    return page("Metrics", *(block for module in MODULES for block in _section(module)))


def _section(module: ModuleType) -> Iterator[str]:
    metrics = list(metrics_of(module))
    yield heading(f"{module.__name__}")
    yield prose(module.__doc__ or "")
    rows = [(code(metric.name), metric.type, codes(metric.labels) or "none") for metric in metrics]
    yield table(("metric", "type", "labels"), rows)
    yield items((code(metric.name), metric.help + metric.buckets) for metric in metrics)


def metrics_of(module: ModuleType) -> Iterator[Metric]:
    """Every metric that the module creates. Raises ValueError for a name that no call begins with."""
    tree = source.tree_of(module)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _starts_with_name(node)]
    names = {text for node in ast.walk(tree) if isinstance(node, ast.Constant) and (text := _metric_name(node))}
    if missing := names - {_metric_name(call.args[0]) for call in calls}:
        raise ValueError(f"{module.__name__}: not created by a call that begins with its name: {sorted(missing)}")
    yield from (_metric(call, module) for call in sorted(calls, key=lambda call: call.lineno))


def _starts_with_name(call: ast.Call) -> bool:
    return bool(call.args and _metric_name(call.args[0]))


def _metric_name(node: ast.expr) -> str | None:
    text = source.string_of(node)
    return text if text and text.startswith(PREFIX) and " " not in text else None


def _metric(call: ast.Call, module: ModuleType) -> Metric:
    function = ast.unparse(call.func).lower()
    kind = next(kind for kind in TYPES if kind in function)
    name = source.string_of(call.args[0]) or ""
    rest = [*call.args[2:], *(keyword.value for keyword in call.keywords if keyword.arg == "labels")]
    labels = [label for node in rest for label in _strings(node)]
    return Metric(
        name=f"{name}_total" if kind == "counter" else name,
        type=kind,
        help=_text(call.args[1], module),
        labels=tuple(labels),
        buckets=_buckets(call, module) if kind == "histogram" else "",
    )


def _strings(node: ast.expr) -> list[str]:
    if isinstance(node, ast.List | ast.Tuple):
        return [text for part in node.elts for text in _strings(part)]
    text = source.string_of(node)
    return [text] if text else []


def _text(node: ast.expr, module: ModuleType) -> str:
    """The help; names of the module's constants inside are filled in."""
    if not isinstance(node, ast.JoinedStr):
        return source.string_of(node) or ""
    parts = [source.string_of(part) or _value(part, module) for part in node.values]
    return "".join(parts)


def _value(part: ast.expr, module: ModuleType) -> str:
    return str(getattr(module, ast.unparse(part.value))) if isinstance(part, ast.FormattedValue) else ""


def _buckets(call: ast.Call, module: ModuleType) -> str:
    names = [
        node.id for node in [*call.args, *(keyword.value for keyword in call.keywords)] if isinstance(node, ast.Name)
    ]
    bounds = next(getattr(module, name) for name in names if "BUCKETS" in name)
    return f". Buckets end at {', '.join(str(bound) for bound in bounds)}."
