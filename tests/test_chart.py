"""The Helm chart: rendered over several values files, held against Kubernetes' schemas, the gateway's settings and itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gateway import cli
from gateway.config import configuration, settings
from gateway.services import FIXED
from gateway.state.spool import MAX_SPOOL
from helm.generate.__main__ import ROOT
from helm.generate.chart_values import ABOUT, defaults, leaves
from patterns.cache import KEPT_BYTES

CHART: Final = ROOT / "helm/portcullis"
VALUES: Final = sorted((ROOT / "tests/chart_values").glob("*.yaml"))
OPERATORS: Final = ["monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1", "cert-manager.io/v1"]

Objects = dict[tuple[str, str], dict[str, Any]]
Render = Callable[..., Objects]


class Refused(Exception):  # noqa: N818
    """The chart does not render with these values; the message is what a person would read."""


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Renders the chart and returns its objects by (kind, name)."""
    folder = tmp_path_factory.mktemp("helm")
    program = folder / "render"
    go = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache")}
    subprocess.run(["go", "build", "-o", program, ROOT / "tests/helm_render/main.go"], check=True, env=go)

    def rendered(*files: Path, values: dict[str, Any] | None = None, apis: list[str] = OPERATORS) -> Objects:
        if values is not None:
            own = folder / "values.yaml"
            own.write_text(yaml.safe_dump(values))
            files = (*files, own)
        asked = json.dumps({"release": "demo", "namespace": "llm", "apis": apis})
        done = subprocess.run([program, CHART, asked, *files], capture_output=True, text=True)
        if done.returncode:
            raise Refused(done.stderr)
        objects: Objects = {}
        for name, text in json.loads(done.stdout).items():
            for one in yaml.safe_load_all(text) if name.endswith(".yaml") else ():
                if one is not None:
                    key = (one["kind"], one["metadata"]["name"])
                    assert key not in objects, f"{key} is rendered twice"
                    objects[key] = one
        return objects

    return rendered


def merged(file: Path | None) -> dict[str, Any]:
    """The values as helm would merge them."""

    def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        out = dict(below)
        for key, value in above.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merge(out[key], value) if both else value
        return out

    return merge(defaults(), yaml.safe_load(file.read_text()) if file else {})


SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
with_each_values_file = pytest.mark.parametrize("file", [None, *VALUES], ids=lambda file: file.stem if file else "default")


@with_each_values_file
def test_values_fit_the_schema(file: Path | None) -> None:
    jsonschema.validate(merged(file), SCHEMA)


@with_each_values_file
def test_every_object_is_what_kubernetes_takes(render: Render, file: Path | None) -> None:
    objects = render(*([file] if file else []))
    foreign = set()
    for (kind, _), one in objects.items():
        if one["apiVersion"].split("/")[0] in {api.split("/")[0] for api in OPERATORS}:
            foreign.add(kind)  # custom resources: their schemas are their operators' own
        else:
            kubernetes_validate.validate(one, "1.33", strict=True)
    assert foreign <= {"ServiceMonitor", "PrometheusRule", "HTTPRoute", "Certificate"}


@with_each_values_file
def test_the_gateway_takes_the_configuration(render: Render, file: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    objects = render(*([file] if file else []))
    [config] = [one for (kind, _), one in objects.items() if kind == "ConfigMap" and "portcullis.yaml" in one["data"]]
    chosen = configuration.check(yaml.safe_load(config["data"]["portcullis.yaml"]), "chart")
    [pod] = [one["spec"]["template"]["spec"] for (kind, _), one in objects.items() if kind == "Deployment"]
    [container] = pod["containers"]
    parsed = cli.parser().parse_args(container["args"])
    assert parsed.workers >= 1
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert parsed.config is None
    environment = {one["name"]: one.get("value", "") for one in container["env"]}
    assert environment["PORTCULLIS_CONFIG"] == f"{mounts['config']}/portcullis.yaml", "commands in the pod mean it, too"
    assert str(chosen.data_dir) == mounts["data"]
    assert container["ports"][0]["containerPort"] == int(chosen.listen.rpartition(":")[2])
    # What a request in flight may take at the end is less than what Kubernetes grants.
    assert pod["terminationGracePeriodSeconds"] > chosen.limits.drain_seconds + chosen.limits.ready_grace_seconds + 5
    assert chosen.state.startswith("sqlite:/var/lib/portcullis") != ("PORTCULLIS_STATE" in environment)
    if "PORTCULLIS_STATE" not in environment:
        assert "PersistentVolumeClaim" in {kind for kind, _ in objects}


@with_each_values_file
def test_objects_name_each_other_rightly(render: Render, file: Path | None) -> None:
    objects = render(*([file] if file else []))
    [deployment] = [one for (kind, _), one in objects.items() if kind == "Deployment"]
    template = deployment["spec"]["template"]
    labels, name = template["metadata"]["labels"], deployment["metadata"]["name"]
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    for (kind, service), one in objects.items():
        selector = one["spec"].get("selector") if "spec" in one else None
        if kind == "Service" and "redis" not in service:
            assert selector.items() <= labels.items()
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
        if kind in ("PodDisruptionBudget", "ServiceMonitor"):
            assert selector["matchLabels"].items() <= labels.items()
        if kind == "HorizontalPodAutoscaler":
            assert one["spec"]["scaleTargetRef"]["name"] == name
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]} <= volumes


@with_each_values_file
def test_pods_may_do_nothing_they_need_not(render: Render, file: Path | None) -> None:
    for (kind, _), one in render(*([file] if file else [])).items():
        if kind in ("Deployment", "StatefulSet"):
            pod = one["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
                }  # fmt: skip
                assert container["resources"]["limits"]["memory"]
        if kind == "ConfigMap":
            assert "sk-not-a-real-key" not in json.dumps(one)


def test_everything_has_what_it_promises(render: Render) -> None:
    objects = render(ROOT / "tests/chart_values/everything.yaml")
    kinds = {kind for kind, _ in objects}
    assert kinds == {
        "Certificate", "ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy",
        "PodDisruptionBudget", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet",
    }  # fmt: skip
    service = objects["Service", "guard"]["spec"]["ports"]
    assert {"name": "sync-quic", "port": 9443, "targetPort": "sync-quic", "protocol": "UDP"} in service
    assert objects["Service", "guard-replicas"]["spec"]["clusterIP"] == "None"
    metrics = objects["HorizontalPodAutoscaler", "guard"]["spec"]["metrics"]
    assert metrics[1]["pods"] == {"metric": {"name": "portcullis_in_flight"}, "target": {"type": "AverageValue", "averageValue": "200"}}
    assert objects["PodDisruptionBudget", "guard"]["spec"]["minAvailable"] == "75%"
    pages = [json.loads(text) for (kind, name), one in objects.items() if kind == "ConfigMap" and "dashboard" in name
             for text in one["data"].values()]  # fmt: skip
    assert {page["uid"] for page in pages} >= {"portcullis-traffic", "portcullis-slo"}
    rule = objects["PrometheusRule", "guard"]["spec"]
    assert rule == yaml.safe_load((CHART / "files/rules.yaml").read_text())
    allowed = [block for rule in objects["NetworkPolicy", "guard"]["spec"]["egress"] for block in rule["to"]]
    assert {"ipBlock": {"cidr": "203.0.113.0/24"}} in allowed
    assert {"ipBlock": {"cidr": "0.0.0.0/0"}} not in allowed
    config = objects["ConfigMap", "guard"]["data"]["portcullis.yaml"]
    assert yaml.safe_load(config)["limits"]["in_flight"] == 33554432


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"redis": {"enabled": False}}, "several replicas need one state: set redis.enabled"),
        ({"redis": {"existingUrlSecret": "x"}}, "redis.enabled and redis.existingUrlSecret exclude each other"),
        ({"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}, "autoscaling.minReplicas (9) is more than autoscaling.maxReplicas (3)"),
        ({"persistence": {"enabled": True}}, "persistence.enabled gives one volume to one replica"),
        ({"ingress": {"enabled": True}}, "ingress.hosts: wanted at least one host"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: wanted at least one Gateway"),
        ({"certificate": {"enabled": True}}, "certificate.issuerRef.name: wanted the name"),
        ({"secretEnv": {"existingSecret": "x", "values": {"A": "b"}}}, "exclude each other"),
        ({"config": {"state": "redis://mine:6379/0"}}, "config.state and the chart's redis exclude each other"),
        ({"config": {"data_dir": "/data"}}, "config.data_dir: wanted /var/lib/portcullis"),
        ({"config": {"data_dir": "/var/lib/portcullis-2"}}, "config.data_dir: wanted /var/lib/portcullis"),
        ({"config": {"listen": "127.0.0.1:8080"}}, "config.listen: nobody reaches loopback in a pod"),
        ({"config": {"listen": "[::1]:8080"}}, "config.listen: nobody reaches loopback in a pod"),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other(render: Render, values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        render(values=values)


def test_what_cannot_change_makes_new_pods(render: Render) -> None:
    """What a running gateway refuses to take would else be refused by each pod until somebody restarts it."""

    def pods(config: dict[str, Any]) -> str:
        template = render(values={"config": config})["Deployment", "demo-portcullis"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/fixed"])

    usual = pods({})
    assert pods({"policy": "strict"}) == usual
    for key, value in (("audit", {"enabled": False}), ("sync", {"node": "x"}), ("open", True)):
        assert pods({key: value}) != usual, key
    picked = re.search(r"pick .Values.config ([^|]+)\|", (CHART / "templates/deployment.yaml").read_text())
    assert picked is not None
    assert tuple(re.findall(r'"(\w+)"', picked[1])) == FIXED
    listed = re.search(r"change while a gateway runs \(([^)]+)\)", (ROOT / "docs/operate.md").read_text())
    assert listed is not None
    assert tuple(re.findall(r"`(\w+)`", listed[1])) == FIXED


def test_what_is_written_fits_the_pods_own_folder(render: Render) -> None:
    """A pod that outgrows it is evicted, and so would be its successor."""
    objects = render()
    config = configuration.check(yaml.safe_load(objects["ConfigMap", "demo-portcullis"]["data"]["portcullis.yaml"]), "chart")
    [size] = [volume["emptyDir"]["sizeLimit"] for volume in
              objects["Deployment", "demo-portcullis"]["spec"]["template"]["spec"]["volumes"] if volume["name"] == "data"]
    open_files = defaults()["workers"] * config.audit.rotate_bytes
    assert config.audit.keep_bytes + open_files + KEPT_BYTES + MAX_SPOOL < int(size.removesuffix("Gi")) * 2**30


def test_a_service_that_is_reached_from_outside_is_not_closed_to_it(render: Render) -> None:
    def ingress(**values: Any) -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = render(values=values)["NetworkPolicy", "demo-portcullis"]["spec"]["ingress"]
        return rules

    assert len(ingress()[0]["from"]) == 2
    assert "from" not in ingress(service={"type": "LoadBalancer"})[0]
    apps = ingress(service={"type": "LoadBalancer"}, networkPolicy={"clientNamespaces": {"team": "apps"}})[0]["from"]
    assert apps[0] == {"namespaceSelector": {"matchLabels": {"team": "apps"}}}
    issuer = {"enabled": True, "issuerRef": {"name": "x"}}
    assert [rule["ports"] for rule in ingress(sync={"enabled": True}, certificate=issuer) if "from" not in rule] == []
    outside = ingress(sync={"enabled": True}, certificate=issuer, service={"udp": {"enabled": True}})
    assert [rule["ports"] for rule in outside if "from" not in rule] == [[{"port": "sync-quic", "protocol": "UDP"}]]


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("serviceMonitor", "install the Prometheus Operator's CRDs"), ("prometheusRule", "load files/rules.yaml into your Prometheus"),
        ("httpRoute", "install the Gateway API's CRDs"), ("certificate", "install cert-manager"),
    ],
)  # fmt: skip
def test_a_cluster_without_the_kinds(render: Render, switch: str, message: str) -> None:
    needed = {"parentRefs": [{"name": "x"}], "issuerRef": {"name": "x"}}
    keys = {"httpRoute": ["parentRefs"], "certificate": ["issuerRef"]}.get(switch, [])
    with pytest.raises(Refused, match=message):
        render(values={switch: {"enabled": True, **{key: needed[key] for key in keys}}}, apis=[])


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"replica": 3}, "", "'replica' was unexpected"),
        ({"workers": 0}, "workers", "less than the minimum"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image.pullPolicy", "is not one of"),
        ({"config": {"polcy": "strict"}}, "config", "'polcy' was unexpected"),
        ({"config": {"policy": "stirct"}}, "config.policy", "is not valid under any of the given schemas"),
        ({"config": {"limits": {"in_flight": 0}}}, "config.limits.in_flight", "less than the minimum"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate({**defaults(), **values}, SCHEMA)
    assert ".".join(map(str, caught.value.absolute_path)) == where
    assert message in caught.value.message


def test_every_value_is_described_used_and_no_other() -> None:
    templates = "\n".join(file.read_text() for file in (CHART / "templates").iterdir())
    described = dict(leaves(defaults()))
    assert set(described) == set(ABOUT)
    unused = [path for path in described if f".Values.{path}" not in templates and f".Values.{path.rpartition('.')[0]}" not in templates]
    assert unused == []
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))
    known = set(described) | {path.rpartition(".")[0] for path in described}
    assert {path for path in used if path not in known and not path.startswith("config.")} == set()
    reads = {path for path in used if path.startswith("config.")}
    assert {path.split(".")[1] for path in reads} <= set(settings.Settings.model_fields)
