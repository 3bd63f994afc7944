"""What each of the chart's values means and takes. ``values.schema.json`` and ``docs/chart.md`` are written from this.

The defaults and their types come from ``values.yaml`` itself; ``config`` is the gateway's own settings, taken from their models,
so that the chart and the gateway cannot know different keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import yaml

from gateway.config.settings import Settings
from gateway.screening.policy import PRESETS

VALUES: Final = Path(__file__).parents[1] / "portcullis" / "values.yaml"


class Value(NamedTuple):
    """What a value means, and JSON-schema keywords beside its type."""

    about: str
    rules: Mapping[str, Any] = MappingProxyType({})


_PORT: Final = {"minimum": 1, "maximum": 65535}
_COUNT: Final = {"minimum": 1}
_QUANTITY: Final = {"pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
_DURATION: Final = {"pattern": r"^([0-9]+(h|m|s|ms))+$"}
_SPREAD: Final = {"enum": ["DoNotSchedule", "ScheduleAnyway"]}
_TEXTS: Final = {"additionalProperties": {"type": "string"}}
_OBJECTS: Final = {"items": {"type": "object"}}
_STRINGS: Final = {"items": {"type": "string", "minLength": 1}}
_CIDRS: Final = {"items": {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"}}

ABOUT: Final[dict[str, Value]] = {
    "image.repository": Value("Where the image is.", {"minLength": 1}),
    "image.tag": Value("Its tag; empty is the chart's appVersion."),
    "image.digest": Value("`sha256:…`; set, it is used instead of the tag.", {"pattern": r"^(sha256:[0-9a-f]{64})?$"}),
    "image.pullPolicy": Value("When the image is pulled.", {"enum": ["Always", "IfNotPresent", "Never"]}),
    "image.pullSecrets": Value("Secrets for a private registry, as `- name: …`.", _OBJECTS),
    "nameOverride": Value("Instead of the chart's name in names and labels."),
    "fullnameOverride": Value("Instead of release and chart name in names."),
    "replicas": Value("Pods, where autoscaling is off.", {"minimum": 0}),
    "workers": Value("Worker processes in a pod; about one a core of `resources.requests.cpu`.", {"minimum": 1, "maximum": 256}),
    "config": Value("The gateway's configuration, `portcullis.yaml`, key for key (docs/configuration.md). `listen`, `data_dir` and "
                    "`state` are filled in where they are left out."),
    "secretEnv.existingSecret": Value("A Secret whose keys become environment variables, for `api_key: env:NAME` in `config`."),
    "secretEnv.values": Value("The same, made by the chart. For trying things out: values end in the release's history.", _TEXTS),
    "env": Value("More environment variables, as in a pod.", _OBJECTS),
    "service.type": Value("How the Service is reached.", {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}),
    "service.port": Value("The Service's port.", _PORT),
    "service.annotations": Value("For load balancers.", _TEXTS),
    "service.udp.enabled": Value("Whether the Service passes the sync protocol's UDP port too, for replicas outside the cluster."),
    "service.udp.port": Value("The port for that.", _PORT),
    "sync.enabled": Value("Opens the pattern-sync port between replicas (UDP for QUIC, TCP where UDP is blocked). What `config.sync` "
                          "needs for that is filled in, but for certificates where `certificate.enabled` is false."),
    "sync.port": Value("That port.", _PORT),
    "persistence.enabled": Value("A volume for `data_dir`, for a single replica with SQLite. Otherwise the data is the pod's own."),
    "persistence.size": Value("Size of the volume, or of the pod's own folder.", _QUANTITY),
    "persistence.storageClass": Value("Storage class; empty is the cluster's default."),
    "resources": Value("Requests and limits of a pod. A limit on CPU slows the slowest requests; leave it out where you may."),
    "autoscaling.enabled": Value("Whether a HorizontalPodAutoscaler sets the number of pods."),
    "autoscaling.minReplicas": Value("The fewest pods.", _COUNT),
    "autoscaling.maxReplicas": Value("The most pods.", _COUNT),
    "autoscaling.targetCPUUtilization": Value("Percent of the requested CPU that it aims for.", {"minimum": 1, "maximum": 100}),
    "autoscaling.targetInFlight": Value("Requests in flight a pod that it aims for; 0 is off. Needs an adapter that serves "
                                        "`portcullis_in_flight` as a pods metric (prometheus-adapter; see docs/operate.md).",
                                        {"minimum": 0}),
    "autoscaling.scaleUpSeconds": Value("How long load must last before pods are added.", {"minimum": 0, "maximum": 3600}),
    "autoscaling.scaleDownSeconds": Value("How long load must be low before pods are taken away.", {"minimum": 0, "maximum": 3600}),
    "podDisruptionBudget.enabled": Value("Whether voluntary evictions are bounded."),
    "podDisruptionBudget.maxUnavailable": Value("Pods that may be missing, a number or percent.", {"type": ["integer", "string"]}),
    "podDisruptionBudget.minAvailable": Value("Instead: pods that must be there.", {"type": ["integer", "string", "null"]}),
    "probes.startupSeconds": Value("How long a pod may take to start; the first start with new patterns compiles them.", _COUNT),
    "probes.periodSeconds": Value("Seconds between two readiness probes; liveness probes take twice as long.", _COUNT),
    "probes.timeoutSeconds": Value("How long a probe may take.", _COUNT),
    "termination.marginSeconds": Value("Seconds beyond grace and drain before a pod is killed: for the last records.", {"minimum": 6}),
    "topologySpread.enabled": Value("Whether pods are spread over zones and nodes."),
    "topologySpread.zone": Value("What if zones cannot be balanced.", _SPREAD),
    "topologySpread.node": Value("What if nodes cannot be balanced.", _SPREAD),
    "networkPolicy.enabled": Value("Whether traffic is limited to what is listed here."),
    "networkPolicy.clientNamespaces": Value("Labels of namespaces that may call the gateway; empty is all, and with a NodePort or "
                                            "LoadBalancer everybody outside too.", _TEXTS),
    "networkPolicy.monitoringNamespaces": Value("Labels of namespaces that may scrape it.", _TEXTS),
    "networkPolicy.egress.providerCIDRs": Value("Where upstreams may be.", _CIDRS),
    "networkPolicy.egress.providerExcept": Value("What of `0.0.0.0/0` stays closed: the cluster itself, and the cloud's metadata "
                                                 "service.", _CIDRS),
    "networkPolicy.egress.providerPorts": Value("Their ports.", {"items": {"type": "integer", **_PORT}}),
    "networkPolicy.egress.extra": Value("More egress rules, as in a NetworkPolicy (an outside Redis, a trace collector).", _OBJECTS),
    "serviceMonitor.enabled": Value("Whether a ServiceMonitor is made (Prometheus Operator)."),
    "serviceMonitor.interval": Value("How often it scrapes.", _DURATION),
    "serviceMonitor.labels": Value("Labels by which your Prometheus selects it.", _TEXTS),
    "prometheusRule.enabled": Value("Whether the alert rules are installed (Prometheus Operator)."),
    "prometheusRule.labels": Value("Labels by which your Prometheus selects them.", _TEXTS),
    "dashboards.enabled": Value("Whether the Grafana dashboards are installed, as ConfigMaps for Grafana's sidecar."),
    "dashboards.labels": Value("Labels by which the sidecar finds them.", _TEXTS),
    "dashboards.folder": Value("Their folder in Grafana."),
    "ingress.enabled": Value("Whether an Ingress is made, for the data plane's paths alone."),
    "ingress.className": Value("The Ingress class."),
    "ingress.annotations": Value("More annotations.", _TEXTS),
    "ingress.hosts": Value("Host names.", _STRINGS),
    "ingress.tls": Value("TLS, as in an Ingress.", _OBJECTS),
    "httpRoute.enabled": Value("Whether a Gateway API HTTPRoute is made, for the data plane's paths alone."),
    "httpRoute.parentRefs": Value("The Gateways that it attaches to.", _OBJECTS),
    "httpRoute.hostnames": Value("Host names.", _STRINGS),
    "httpRoute.annotations": Value("Annotations.", _TEXTS),
    "httpRoute.timeout": Value("How long a request may take, a streamed reply included.", _DURATION),
    "certificate.enabled": Value("Whether cert-manager issues the replicas' certificate (mounted at /etc/portcullis-tls)."),
    "certificate.issuerRef.name": Value("Name of the Issuer or ClusterIssuer."),
    "certificate.issuerRef.kind": Value("Which of both.", {"enum": ["Issuer", "ClusterIssuer"]}),
    "certificate.duration": Value("How long a certificate is valid.", _DURATION),
    "certificate.renewBefore": Value("How long before its end it is renewed.", _DURATION),
    "redis.enabled": Value("Whether the chart runs one Redis for the replicas' state."),
    "redis.image": Value("Its image.", {"minLength": 1}),
    "redis.existingUrlSecret": Value("Instead: a Secret that holds the URL of a Redis that you have."),
    "redis.existingUrlKey": Value("The key in it.", {"minLength": 1}),
    "redis.size": Value("Size of its volume.", _QUANTITY),
    "redis.storageClass": Value("Storage class; empty is the cluster's default."),
    "redis.resources": Value("Its requests and limits."),
    "serviceAccount.annotations": Value("For workload identity. No token is mounted.", _TEXTS),
    "podAnnotations": Value("More annotations of pods.", _TEXTS),
    "podLabels": Value("More labels of pods.", _TEXTS),
    "nodeSelector": Value("Where pods may run.", _TEXTS),
    "tolerations": Value("Taints that pods tolerate.", _OBJECTS),
    "affinity": Value("Affinity of pods."),
    "priorityClassName": Value("Priority class of pods."),
    "extraVolumes": Value("More volumes (pattern packs, a CA).", _OBJECTS),
    "extraVolumeMounts": Value("Where they are mounted.", _OBJECTS),
}  # fmt: skip
"""By dotted path, every value that ``values.yaml`` has."""

_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def defaults() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    return loaded


def schema() -> str:
    """``values.schema.json``."""
    config = _with_names_of_policies(Settings.model_json_schema())
    definitions = config.pop("$defs")
    root = _object("", defaults())
    root["properties"]["config"] = {**config, "title": "config", "description": ABOUT["config"].about}
    root["properties"]["global"] = {"type": "object", "description": "Values that a parent chart shares; none are used here."}
    page = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart portcullis", **root,
            "$defs": definitions}  # fmt: skip
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def _with_names_of_policies(node: Any) -> Any:
    """Wherever a policy may stand, the name of a preset may: the settings take both, their models know the mapping alone."""
    if isinstance(node, list):
        return [_with_names_of_policies(one) for one in node]
    if not isinstance(node, dict):
        return node
    if node.get("$ref", "").endswith("/PolicySettings"):
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**rest, "anyOf": [{"enum": list(PRESETS)}, {"$ref": node["$ref"]}]}
    return {key: _with_names_of_policies(value) for key, value in node.items()}


def _object(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    properties = {key: _schema_of(f"{prefix}{key}", value) for key, value in values.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema_of(path: str, value: Any) -> dict[str, Any]:
    if path in ABOUT:
        about = ABOUT[path]
        return {"type": _TYPES.get(type(value), "null"), "description": about.about, **about.rules}
    if not isinstance(value, dict):
        raise LookupError(f"values.yaml: {path} is not described in helm/generate/chart_values.py")
    return _object(f"{path}.", value)


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The described values of ``values.yaml``: (dotted path, default)."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in ABOUT:
            yield path, value
        elif isinstance(value, dict):
            yield from leaves(value, f"{path}.")
        else:
            raise LookupError(f"values.yaml: {path} is not described in helm/generate/chart_values.py")


def document() -> str:
    """``docs/chart.md``."""
    lines = [
        "# The Helm chart's values", "",
        "`helm install portcullis ./helm/portcullis -f my-values.yaml`. How to run it: [operate.md](operate.md). This page and",
        "`values.schema.json` are written from `helm/generate/chart_values.py`; helm refuses values that do not fit.", "",
        "| value | default | what |", "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| `{path}` | `{json.dumps(value)}` | {ABOUT[path].about} |" for path, value in leaves(defaults())]
    return "\n".join(lines) + "\n"
