"""Renders the chart as Helm does, with values of each kind, and compares what comes out with the schemas
of Kubernetes; then with values that have to be refused.

  lint-chart.py CHART
"""

import logging
import sys

import helm_python as helm
import kubernetes_validate
import yaml

KUBERNETES = ["1.30", "1.35"]
MANY = {"mode": "many", "env": {"RUSTACCIO_TARBALL_BACKEND": "s3", "RUSTACCIO_S3_BUCKET": "packages"}}
EVERYTHING = {
    **MANY,
    "replicas": 3,
    "image": {"repository": "registry.example.com/rustaccio", "digest": "sha256:" + "0" * 64, "pullSecrets": ["pull"]},
    # Some of these are the chart's too, and a number is not to be written as 1e+09.
    "env": {**MANY["env"], "RUSTACCIO_URL_PREFIX": "/npm/", "RUSTACCIO_CACHE_SHARED": True, "RUSTACCIO_TLS_CERT": "/tls/crt",
            "RUSTACCIO_METRICS_BACKEND": "prometheus", "RUSTACCIO_CONFIG": "/mine", "RUSTACCIO_MAX_BODY_SIZE": 1000000000},
    "envFromSecrets": ["rustaccio"],
    "config": "uplinks:\n  npmjs: {}\n",
    "args": ["serve"],
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"a": "b"},
        "hosts": [{"host": "npm.example.com", "path": "/npm"}],
        "tls": [{"secretName": "npm", "hosts": ["npm.example.com"]}],
    },
    "preStopSleepSeconds": 5,
    "serviceAccount": {"annotations": {"a": "b"}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "tokenSecret": "prometheus"},
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    "extraVolumes": [{"name": "tls", "secret": {"secretName": "tls"}}],
    "extraVolumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "high",
}
COMMON = {"Service", "ServiceAccount"}
# Values, and the kinds that come of them.
RENDERED = [
    ({}, COMMON | {"StatefulSet"}),
    ({"config": "url_prefix: /npm/", "persistence": {"storageClass": "fast", "annotations": {"a": "b"}}},
     COMMON | {"StatefulSet", "ConfigMap"}),
    ({"persistence": {"existingClaim": "mine"}, "serviceAccount": {"create": False}}, {"Service", "StatefulSet"}),
    (MANY, COMMON | {"Deployment", "PodDisruptionBudget"}),
    ({"persistence": {"size": "3Ti"}, "ingress": {
        "enabled": True, "hosts": [{"host": "npm.example.com"}], "tls": [{"hosts": ["npm.example.com"]}]}},
     COMMON | {"StatefulSet", "Ingress"}),
    (EVERYTHING, COMMON | {"Deployment", "PodDisruptionBudget", "ConfigMap", "Ingress", "ServiceMonitor", "NetworkPolicy"}),
]
# What the program is told without being asked to be told.
TOLD = [
    ({}, "RUSTACCIO_CACHE_MAX_SIZE", "10240mb"),
    ({"persistence": {"size": "3Ti"}}, "RUSTACCIO_CACHE_MAX_SIZE", "1536gb"),
    (MANY, "RUSTACCIO_CACHE_MAX_SIZE", "8190mb"),
    ({"env": {"RUSTACCIO_CACHE_MAX_SIZE": "1gb"}}, "RUSTACCIO_CACHE_MAX_SIZE", "1gb"),
    ({"config": "cache: {max_size: 1gb}"}, "RUSTACCIO_CACHE_MAX_SIZE", None),
    ({}, "RUSTACCIO_PUBLIC_URL", None),
    ({"env": {"RUSTACCIO_URL_PREFIX": "npm"}, **RENDERED[-2][0]}, "RUSTACCIO_PUBLIC_URL", "https://npm.example.com/npm"),
    ({"serviceMonitor": {"enabled": True}}, "RUSTACCIO_METRICS_REQUIRE_ADMIN", "false"),
    (EVERYTHING, "RUSTACCIO_METRICS_REQUIRE_ADMIN", "true"),
    (EVERYTHING, "RUSTACCIO_MAX_BODY_SIZE", "1000000000"),
]
# Values, and what the refusal has to name.
REFUSED = [
    ({"mode": "some"}, "mode"),
    ({"replicas": 0}, "replicas"),
    ({"persistance": {}}, "persistance"),
    ({"env": {"lower": "x"}}, "lower"),
    ({"env": {"RUSTACCIO_BIND": "127.0.0.1:1"}}, "RUSTACCIO_BIND"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"ingress": {"enabled": True}}, "hosts"),
    ({"networkPolicy": {"enabled": True}}, "from"),
    ({"cacheSize": "10G"}, "cacheSize"),
    # What pods do not share ends with each of them.
    ({"mode": "many"}, "RUSTACCIO_TARBALL_BACKEND"),
    ({"mode": "many", "envFromSecrets": ["rustaccio"]}, "RUSTACCIO_TARBALL_BACKEND"),
    ({"mode": "many", "env": {"RUSTACCIO_TARBALL_BACKEND": "local"}}, "RUSTACCIO_TARBALL_BACKEND"),
]


def documents(chart, values):
    rendered = chart.render(values, name="npm", namespace="registry")
    for name, text in sorted(rendered.items()):
        if name.endswith((".yaml", ".yml")):
            yield from (one for one in yaml.safe_load_all(text) if one)


def pod_of(document):
    return document["spec"]["template"]["spec"]


def check_pod(document, values):
    """What schemas do not say."""
    pod = pod_of(document)
    container = pod["containers"][0]
    assert document["spec"]["selector"]["matchLabels"].items() <= (
        document["spec"]["template"]["metadata"]["labels"].items()), "the selector finds no pod"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    there = {volume["name"] for volume in pod.get("volumes", [])}
    there |= {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
    assert mounted == there, f"{mounted} are mounted, {there} are there"
    prefix = "/npm" if "RUSTACCIO_URL_PREFIX" in values.get("env", {}) or "config" in values else ""
    scheme = "HTTPS" if "RUSTACCIO_TLS_CERT" in values.get("env", {}) else "HTTP"
    assert container["readinessProbe"]["httpGet"] == {
        "path": f"{prefix}/-/health/ready", "port": "http", "scheme": scheme}
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), "a variable is there twice"
    assert set(values.get("env", {})) <= set(names)
    assert ("envFrom" in container) == bool(values.get("envFromSecrets"))


def main(path):
    # It says where the schema of each came from.
    logging.disable(logging.WARNING)
    findings = helm.lint(path)
    assert not findings["errors"] and not [one for one in findings["messages"] if one.get("severity", 0) > 1], findings
    with helm.Chart.load(path) as chart:
        for values, kinds in RENDERED:
            found = list(documents(chart, values))
            assert {one["kind"] for one in found} == kinds, f"{values}: {[one['kind'] for one in found]}"
            for document in found:
                if document["kind"] in ("Deployment", "StatefulSet"):
                    check_pod(document, values)
                if document["kind"] == "ServiceMonitor":
                    continue
                for version in KUBERNETES:
                    kubernetes_validate.validate(document, version, strict=True)
        for values, name, value in TOLD:
            pod = next(pod_of(one) for one in documents(chart, values) if one["kind"] in ("Deployment", "StatefulSet"))
            said = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}
            assert said.get(name) == value, f"{values}: {name} is {said.get(name)}"
        for values, named in REFUSED:
            try:
                list(documents(chart, values))
            except helm.HelmError as error:
                assert named in str(error), error
            else:
                raise AssertionError(f"{values} are not refused")


main(sys.argv[1])
