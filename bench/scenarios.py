"""What is measured. Each scenario makes cells: a name, and numbers or why it is BROKEN."""

import base64
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import tarfile
import threading
import time
import traceback

from harness import (
    A,
    ABBREVIATED,
    BASE,
    HERE,
    PACKAGES,
    UPSTREAM,
    Measure,
    Server,
    Upstream,
    cell,
    control,
    fresh,
    get,
    in_parallel,
    note,
    packument_problem,
    path_of,
    read,
    request,
    tarball_problem,
)

SIZES = {"small": "is-number", "medium": "express", "large": "typescript", "xl": "next"}
BLOBS = dict(zip(("10kB", "500kB", "10MB", "60MB"), PACKAGES["bench-blob"]["tarballs"]))
INSTALL = {"Accept": ABBREVIATED, "Accept-Encoding": "gzip"}


# ---------------------------------------------------------------- S2, S3, S4, S8: one request again and again
def hot(server, key, path, headers, connections, problem):
    """Loads `path` with wrk; what it answers is looked at before, its length and status under load."""
    get(path, headers)
    status, answered, body = get(path, headers)
    if wrong := problem(status, answered, body):
        note(f"{key}: {wrong}")
        return cell(key, broken=wrong)
    begin = time.perf_counter()
    for _ in range(3):
        get(path, headers)
    one = (time.perf_counter() - begin) / 3
    seconds = max(1, round(max(A.secs, min(12, 40 * one))))
    repetitions = A.reps if seconds < 5 else min(A.reps, 2)
    runs = []
    for repetition in range(repetitions + 1):
        # The first one warms up.
        argv = ["taskset", "-c", str(A.load_core), "wrk", "-t1", f"-c{connections}", "--timeout", "60s"]
        argv += [f"-d{seconds if repetition else 1}s", "-s", f"{HERE}/wrk.lua", BASE + path, "--"]
        argv += [f"{name}: {value}" for name, value in headers.items()]
        with Measure(server) as measure:
            printed = subprocess.run(argv, capture_output=True, text=True).stdout
        if not repetition:
            # A server may have compressed it better meanwhile; from now on it stays as it is.
            status, answered, body = get(path, headers)
            if wrong := problem(status, answered, body):
                note(f"{key}: {wrong} after the warm-up")
                return cell(key, broken=wrong)
            size = len(body)
            continue
        load = json.loads(printed.split("JSON", 1)[1])
        count = load["n"]
        fits = count * size <= load["bytes"] <= (count + connections) * (size + 3000)
        if count == 0 or load["bad"] or load["errors"] or not fits:
            note(f"{key}: wrong under load: {load}, body of {size} bytes")
            return cell(key, broken="wrong answers under load")
        runs.append((count / load["secs"], measure.cpu / count * 1000, load, measure))
    # Others only ever make it slower: the fastest repetition, the lowest CPU time, the highest memory.
    rate, _, load, _ = max(runs, key=lambda run: run[0])
    cpus = [cpu for _, cpu, _, _ in runs]
    return cell(
        key,
        rps=rate,
        cpu_per_1k=min(cpus),
        p50=load["p50"],
        p99=load["p99"],
        peak_mb=max(measure.peak for *_, measure in runs),
        rss_growth_mb=max(measure.growth for *_, measure in runs),
        n=load["n"],
        foreign=round(min(measure.foreign for *_, measure in runs), 2),
        spread=round(max(cpus) / max(min(cpus), 1e-9), 2),
        wire=size,
    )


def documents(server, scenario, form, sizes):
    accept = ABBREVIATED if form == "abbreviated" else "application/json"
    for size in sizes:
        name = SIZES[size]
        for coding in ("identity", "gzip"):
            headers = {"Accept": accept, "Accept-Encoding": coding}
            connections = 16 if size in ("small", "medium") else 4
            hot(
                server,
                f"{scenario} {form} {size} {coding}",
                path_of(name),
                headers,
                connections,
                lambda *answer: packument_problem(name, *answer, accept, coding),
            )


def S2(server):
    documents(server, "S2", "full", SIZES)


def S3(server):
    sizes = ("small", "medium", "large")
    documents(server, "S3", "abbreviated", sizes)
    for size in sizes:
        key, path = f"S3 conditional {size}", path_of(SIZES[size])
        get(path, INSTALL)
        etag = get(path, INSTALL)[1].get("etag")
        if not etag:
            note(f"{key}: no ETag, so that there can be no 304")
            cell(key, broken="no ETag")
            continue
        headers = {**INSTALL, "If-None-Match": etag}
        hot(server, key, path, headers, 16, lambda status, *_: None if status == 304 else f"status {status}")


def S4(server):
    get("/bench-blob")
    for label, tarball in BLOBS.items():
        connections = 16 if tarball["size"] < 1e6 else 4
        hot(
            server,
            f"S4 tarball {label}",
            "/" + tarball["path"],
            {},
            connections,
            lambda status, _, body: tarball_problem(tarball, status, body),
        )


# ---------------------------------------------------------------- S1: start
def S1():
    start("S1 start empty", lambda: Server(fresh("s1")), 5)


def start(key, server, runs):
    times, memory = [], []
    for _ in range(runs):
        with server() as running:
            times.append(running.startup * 1000)
            time.sleep(1)
            memory.append(running.memory())
    cell(
        key, ms=statistics.median(times), ms_all=[round(t) for t in times], idle_mb=statistics.median(memory)
    )


# ---------------------------------------------------------------- S5: nothing cached yet
def S5():
    cold_and_warm()
    stampede("packument 5MB", "/typescript", None)
    blob = BLOBS["60MB"]
    stampede("tarball 60MB", "/" + blob["path"], blob)
    control("reset")


def some_packages(count):
    """Names with a tarball of each, spread over the alphabet."""
    names = sorted(n for n, package in PACKAGES.items() if package["tarballs"] and n != "bench-blob")
    count = min(count, len(names))
    names = [names[index * len(names) // count] for index in range(count)]
    return [(name, PACKAGES[name]["tarballs"][0]) for name in names]


def cold_and_warm():
    items = some_packages(A.cold_n)

    def one(item):
        name, tarball = item
        begin = time.perf_counter()
        document = get(path_of(name), INSTALL)
        between = time.perf_counter()
        bytes_ = get("/" + tarball["path"])
        return document, bytes_, between - begin, time.perf_counter() - between

    def problem(item, result):
        if isinstance(result, Exception):
            return repr(result)
        (name, tarball), (document, bytes_, *_) = item, result
        # Documents of a few hundred bytes are not worth compressing to everybody.
        coding = document[1].get("content-encoding", "identity")
        wrong = packument_problem(name, *document, ABBREVIATED, coding)
        return wrong or tarball_problem(tarball, bytes_[0], bytes_[2])

    with Server(fresh("s5")) as server:
        for phase in ("cold", "warm"):
            control(f"reset?delay={A.delay}")
            with Measure(server) as measure:
                results, _ = in_parallel(16, one, items)
            problems = [
                f"{item[0]}: {wrong}" for item, r in zip(items, results) if (wrong := problem(item, r))
            ]
            for wrong in problems[:3]:
                note(f"S5 {phase}: {wrong}")
            seconds = [s for r in results if not isinstance(r, Exception) for s in r[2:]]
            asked = sum(hit["n"] for hit in control("stats").values())
            cell(
                f"S5 {phase}",
                **measure.out(2 * len(items), seconds, failed=len(problems), upstream_requests=asked),
            )


def stampede(what, path, tarball):
    """50 clients at once ask for what is not there yet."""
    with Server(fresh("s5b")) as server:
        if tarball:
            get("/bench-blob")
        control(f"reset?delay={A.delay}")
        gate = threading.Barrier(50, timeout=60)

        def one(index):
            get("/-/ping")
            gate.wait()
            # Of the others only the length is looked at: digests would take longer than the downloads.
            kept = []
            keep = kept.append if index == 0 else lambda piece: None
            status, headers, length = request("GET", path, INSTALL, sink=keep)
            return status, headers, length, b"".join(kept)

        with Measure(server) as measure:
            results, seconds = in_parallel(50, one, range(50))
        answers = [r for r in results if not isinstance(r, Exception)]
        lengths = {(status, length) for status, _, length, _ in answers}
        problems = [repr(r) for r in results if isinstance(r, Exception)]
        if len(lengths) > 1:
            problems.append(f"different answers: {sorted(lengths)}")
        elif not problems:
            status, headers, _, body = results[0]
            if tarball:
                wrong = tarball_problem(tarball, status, body)
            else:
                wrong = packument_problem(path[1:], status, headers, body, ABBREVIATED, "gzip")
            problems += [wrong] if wrong else []
        for wrong in problems[:2]:
            note(f"S5 stampede {what}: {wrong}")
        hits = control("stats").get(path[1:], {"n": 0, "bytes": 0})
        cell(
            f"S5 stampede {what}",
            **measure.out(50, seconds, failed=len(problems), upstream_requests=hits["n"]),
        )


# ---------------------------------------------------------------- S6: publish
def sign_up():
    user = {
        "name": "bench",
        "password": "bench-Pass-1",
        "email": "b@example.org",
        "type": "user",
        "roles": [],
    }
    headers = {"Content-Type": "application/json"}
    status, _, body = request("PUT", "/-/user/org.couchdb.user:bench", headers, json.dumps(user))
    if status != 201:
        raise RuntimeError(f"cannot sign up: {status} {body[:200]}")
    return json.loads(body)["token"]


def archive(name, version, length):
    """A tarball as npm packs it: a server may look into it."""
    package = json.dumps({"name": name, "version": version}).encode()
    noise = random.Random(f"{name}@{version}").randbytes(length)
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w") as tar:
            for path, body in (("package/package.json", package), ("package/noise.bin", noise)):
                entry = tarfile.TarInfo(path)
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
    return out.getvalue()


def publish_body(name, version, tarball):
    file = f"{name}-{version}.tgz"
    text = f"bench package {name}"
    manifest = {
        "_id": f"{name}@{version}",
        "name": name,
        "version": version,
        "description": text,
        "keywords": ["bench"],
        "main": "index.js",
        "dependencies": {"express": "^4"},
        "dist": {
            "shasum": hashlib.sha1(tarball).hexdigest(),
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode(),
            "tarball": f"{BASE}/{name}/-/{file}",
        },
    }
    attachment = {
        "content_type": "application/octet-stream",
        "data": base64.b64encode(tarball).decode(),
        "length": len(tarball),
    }
    document = {
        "_id": name,
        "name": name,
        "description": text,
        "dist-tags": {"latest": version},
        "readme": "# bench\n" * 20,
        "access": None,
        "versions": {version: manifest},
        "_attachments": {file: attachment},
    }
    return json.dumps(document).encode()


def publish(token, name, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return request("PUT", f"/{name}", headers, body)[0]


def is_stored(name, version, tarball):
    status, _, body = get(f"/{name}")
    if status != 200 or version not in json.loads(body).get("versions", {}):
        return False
    status, _, body = get(f"/{name}/-/{name}-{version}.tgz")
    return status == 200 and body == tarball


def S6():
    with Server(fresh("s6")) as server:
        token = sign_up()
        for clients in (1, 16):
            names = [f"p{clients}-{index}" for index in range(A.publish_n)]
            tarballs = {name: archive(name, "1.0.0", 10_000) for name in names}
            bodies = {name: publish_body(name, "1.0.0", tarballs[name]) for name in names}
            with Measure(server) as measure:
                statuses, seconds = in_parallel(clients, lambda n: publish(token, n, bodies[n]), names)
            done = [name for name, status in zip(names, statuses) if status in (200, 201)]
            there, _ = in_parallel(4, lambda n: is_stored(n, "1.0.0", tarballs[n]), done)
            lost = sum(is_there is not True for is_there in there)
            failed = len(names) - len(done)
            cell(f"S6 publish c{clients}", **measure.out(len(names), seconds, failed=failed, lost=lost))
        race(server, token)
        tarball = archive("big", "1.0.0", 30_000_000)
        body = publish_body("big", "1.0.0", tarball)
        with Measure(server) as measure:
            statuses, _ = in_parallel(1, lambda _: publish(token, "big", body), [0])
        failed = int(statuses[0] not in (200, 201) or not is_stored("big", "1.0.0", tarball))
        cell("S6 publish 30MB", **measure.out(1, failed=failed, status=str(statuses[0])))


def race(server, token):
    versions = [f"1.0.{index}" for index in range(100)]
    tarballs = {version: archive("race", version, 10_000) for version in versions}
    bodies = {version: publish_body("race", version, tarballs[version]) for version in versions}
    with Measure(server) as measure:
        statuses, seconds = in_parallel(8, lambda v: publish(token, "race", bodies[v]), versions)
    done = [version for version, status in zip(versions, statuses) if status in (200, 201)]
    there, _ = in_parallel(1, lambda v: is_stored("race", v, tarballs[v]), done)
    lost = sum(is_there is not True for is_there in there)
    codes = sorted({str(status) for status in statuses})
    refused = len(versions) - len(done)
    cell("S6 race", **measure.out(100, seconds, refused=refused, lost=lost, codes=codes))


# ---------------------------------------------------------------- S7: real installs
def S7():
    project = {
        k: v for k, v in json.loads(read(f"{HERE}/project.json")).items() if not k.startswith("capture")
    }
    control(f"reset?delay={A.delay}")
    for client in A.clients.split(","):
        if not shutil.which(client):
            note(f"S7: there is no {client}")
            continue
        if A.kind == "nginx-static":
            # This peer stands for no proxy at all.
            runs = [install(client, UPSTREAM, project) for _ in range(A.install_runs)]
            installed(f"S7 {client} direct", runs, [])
            continue
        phases = {"cold": ([], []), "warm": ([], [])}
        for _ in range(A.install_runs):
            with Server(fresh("s7")) as server:
                for runs, measures in phases.values():
                    with Measure(server) as measure:
                        runs.append(install(client, BASE, project))
                    measures.append(measure)
        for phase, (runs, measures) in phases.items():
            installed(f"S7 {client} {phase}", runs, measures)
    control("reset")


def installed(key, runs, measures):
    done = [seconds for seconds, _ in runs if seconds]
    if not done:
        return cell(key, broken="no install succeeded")
    values = {"wall_s": statistics.median(done), "all": [round(s, 1) for s in done]}
    if measures:
        values["cpu_s"] = statistics.median(m.cpu for m in measures)
        values["peak_mb"] = max(m.peak for m in measures)
        values["foreign"] = round(min(m.foreign for m in measures), 2)
    return cell(key, **values, failed=len(runs) - len(done), packages=runs[0][1])


def install(client, url, project):
    """Seconds of an install into an empty folder, `None` where it failed, and how many packages came."""
    folder = fresh("s7-client")
    with open(f"{folder}/package.json", "w") as file:
        json.dump(project, file)
    if client == "npm":
        argv = ["npm", "install", f"--cache={folder}/c", "--no-audit", "--no-fund", "--loglevel=error"]
    else:
        argv = ["pnpm", "install", f"--store-dir={folder}/s", f"--cache-dir={folder}/c", "--reporter=silent"]
        argv += ["--config.manage-package-manager-versions=false"]
    argv += ["--ignore-scripts", f"--registry={url}/"]
    env = {**os.environ, "XDG_DATA_HOME": f"{folder}/x", "XDG_CACHE_HOME": f"{folder}/x"}
    begin = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    seconds = time.perf_counter() - begin
    count = 0
    if done.returncode == 0 and os.path.exists(f"{folder}/node_modules/webpack/package.json"):
        if client == "npm":
            count = len(json.loads(read(f"{folder}/node_modules/.package-lock.json"))["packages"])
        else:
            count = len(os.listdir(f"{folder}/node_modules/.pnpm"))
    else:
        note(f"S7 {client}: exit {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    return (seconds if count else None), count


# ---------------------------------------------------------------- S8: many hosted packages
def S8():
    folder, count = fresh("s8"), A.packages
    with Server(folder) as server:
        token = sign_up()

        def one(index):
            name = f"bench-pkg-{index}"
            return publish(token, name, publish_body(name, "1.0.0", archive(name, "1.0.0", 500)))

        with Measure(server) as measure:
            statuses, seconds = in_parallel(16, one, range(count))
        failed = sum(status not in (200, 201) for status in statuses)
        cell("S8 fill", **measure.out(count, seconds, failed=failed))
    start("S8 start", lambda: Server(folder), 3)
    with Server(folder) as server:
        for label, text in (("name", f"bench-pkg-{count // 2}"), ("word", "bench")):

            def problem(status, _, body):
                if status != 200:
                    return f"status {status}"
                found = [hit["package"]["name"] for hit in json.loads(body)["objects"]]
                return None if any(text in name for name in found) else f"found {found[:3]}"

            path = f"/-/v1/search?text={text}&size=20"
            hot(server, f"S8 search {label}", path, {}, 4, problem)
        if A.kind == "rustaccio":
            pages(server, token)


def pages(server, token):
    """What a browser is shown; what others show is made in the browser."""
    browser = {"Accept": "text/html"}

    def shows(part):
        return lambda status, _, body: None if status == 200 and part in body else f"status {status}"

    hot(server, "S8 page first", "/", browser, 4, shows(b"bench-pkg-"))
    section = "## Section\n\nSome *text*, `code`, a [link](a.md).\n\n" + "```js\nlet a = 1;\n```\n\n- one\n- two\n\n"
    # The first README with code waits until languages are loaded.
    for name, text in (("bench-readme", section), ("bench-long-readme", section * (2**20 // len(section)))):
        body = json.loads(publish_body(name, "1.0.0", archive(name, "1.0.0", 500)))
        body["readme"] = body["versions"]["1.0.0"]["readme"] = text
        if publish(token, name, json.dumps(body)) not in (200, 201):
            raise RuntimeError(f"cannot publish {name}")
        begin = time.perf_counter()
        status, _, page = get(f"/-/web/detail/{name}", browser)
        took = time.perf_counter() - begin
        if status != 200 or b"Section" not in page:
            raise RuntimeError(f"the page of {name} has no README: {status}")
    cell("S8 page readme", ms=took * 1000, wire=len(page))
    hot(server, "S8 page readme again", "/-/web/detail/bench-long-readme", browser, 4, shows(b"Section"))


# ---------------------------------------------------------------- S9: what speed must not hide
def S9():
    control("reset")
    with Server(fresh("s9"), "2s"):
        get("/is-number")
        control("bump?pkg=is-number")
        time.sleep(3)
        # The first answer may be an old one, while a new one is fetched.
        get("/is-number")
        time.sleep(2.5)
        versions = json.loads(get("/is-number")[2])["versions"]
        control("bump")
        cell("S9 new version upstream", ok="9999.0.0" in versions)
    folder = fresh("s9b")
    tarball = "/" + PACKAGES["express"]["tarballs"][0]["path"]
    want = [PACKAGES["express"]["versions"], PACKAGES["lodash"]["versions"], 200]

    def ask():
        found = []
        for path in ("/express", "/lodash", tarball):
            try:
                status, _, body = get(path)
                is_document = status == 200 and path != tarball
                found.append(len(json.loads(body)["versions"]) if is_document else status)
            except Exception as error:
                found.append(repr(error)[:60])
        return found

    with Server(folder):
        ask()
        time.sleep(1)
    with Server(folder):
        found = ask()
        cell("S9 after a restart", ok=found == want, found=found)
    with Server(folder):
        Upstream.stop()
        try:
            found = ask()
        finally:
            Upstream.start()
        cell("S9 upstream down", ok=found == want, found=found)


# ---------------------------------------------------------------- S10: all kinds of requests for long
def S10():
    control("reset")
    choose = random.Random(1)
    packages = some_packages(len(PACKAGES))
    with Server(fresh("s10")) as server:
        token = sign_up()
        hosted = [f"bench-hosted-{index}" for index in range(50)]
        for name in hosted:
            body = publish_body(name, "1.0.0", archive(name, "1.0.0", 1000))
            if publish(token, name, body) not in (200, 201):
                raise RuntimeError(f"cannot publish {name}")
        etags = {}

        def one(_):
            kind, (name, tarball) = choose.random(), choose.choice(packages)
            path, headers, want = path_of(name), INSTALL, 200
            if kind < 0.1:
                headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
            elif kind < 0.35:
                path, headers = "/" + tarball["path"], {}
            elif kind < 0.55 and name in etags:
                headers, want = {**INSTALL, "If-None-Match": etags[name]}, 304
            elif kind < 0.65:
                path, headers = f"/-/v1/search?text={choose.choice(hosted)}", {}
            elif kind < 0.7:
                path = "/" + choose.choice(hosted)
            status, answered, body = get(path, headers)
            if headers is INSTALL and path == path_of(name) and "etag" in answered:
                etags[name] = answered["etag"]
            return status == want and bool(body) == (want == 200)

        def everything(item):
            name, tarball = item
            for path, headers in (
                (path_of(name), INSTALL),
                (path_of(name), {"Accept": "application/json", "Accept-Encoding": "gzip"}),
                ("/" + tarball["path"], {}),
            ):
                get(path, headers)

        # Caches are full before anything is compared.
        in_parallel(16, everything, packages)
        quarters, failed, seconds = [], 0, 0.0
        server.settle()
        before = server.memory()
        for _ in range(4):
            with Measure(server) as measure:
                results, _ = in_parallel(16, one, range(A.mixed_n // 4))
            failed += sum(result is not True for result in results)
            seconds += measure.wall
            quarters.append(server.memory())
        for wrong in [r for r in results if isinstance(r, Exception)][:2]:
            note(f"S10: {wrong!r}")
        cell(
            "S10 mixed",
            n=A.mixed_n,
            rps=A.mixed_n / seconds,
            before_mb=before,
            quarters_mb=[round(q, 1) for q in quarters],
            level=quarters[-1] / quarters[0],
            failed=failed,
            foreign=round(measure.foreign, 2),
        )
    control("reset")


# ---------------------------------------------------------------- S11: what limits and records cost
def GOVERNED(folder, sink):
    much = "1000000000"
    return {
        "RUSTACCIO_RATE_LIMIT_BACKEND": "memory",
        "RUSTACCIO_RATE_LIMIT_REQUESTS_PER_WINDOW": much,
        "RUSTACCIO_QUOTA_BACKEND": "memory",
        "RUSTACCIO_QUOTA_REQUESTS_PER_DAY": much,
        "RUSTACCIO_QUOTA_DOWNLOADS_PER_DAY": much,
        "RUSTACCIO_METRICS_BACKEND": "prometheus",
        "RUSTACCIO_EVENT_SINK": "http",
        "RUSTACCIO_EVENT_HTTP_BASE_URL": sink,
        "RUSTACCIO_AUDIT_LOG_FILE": f"{folder}/audit.log",
    }


def S11():
    """Starts in turn without and with all of governance in memory: one start may be faster than the next for no
    reason of ours, so that the medians are compared."""
    name, costs = SIZES["small"], {"plain": [], "governed": []}
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
    for round in range(A.governed_rounds):
        for kind, cpus in costs.items():
            folder = fresh(f"s11-{kind}-{round}")
            settings = GOVERNED(folder, UPSTREAM) if kind == "governed" else {}
            os.environ.update(settings)
            try:
                with Server(folder) as server:
                    found = hot(
                        server,
                        f"S11 {kind} {round}",
                        path_of(name),
                        headers,
                        16,
                        lambda *answer: packument_problem(name, *answer, "application/json", "gzip"),
                    )
            finally:
                for setting in settings:
                    del os.environ[setting]
            if "broken" in found:
                return
            cpus.append(found["cpu_per_1k"])
    plain, governed = (statistics.median(cpus) for cpus in costs.values())
    cell("S11 governed", ratio=governed / plain, cpu_per_1k=governed, plain_per_1k=plain, runs=costs)


HOT = {"S2": S2, "S3": S3, "S4": S4}
OTHERS = {"S1": S1, "S5": S5, "S6": S6, "S7": S7, "S8": S8, "S9": S9, "S10": S10, "S11": S11}
# What a server cannot do that only has files or a cache.
NOT_FOR = {"nginx-static": ("S5", "S6", "S8", "S9", "S10", "S11"), "nginx-proxy": ("S6", "S8", "S10", "S11")}


def run(wanted):
    if hot_ones := [HOT[name] for name in wanted if name in HOT]:
        with Server(fresh("hot")) as server:
            for scenario in hot_ones:
                scenario(server)
    for name in wanted:
        if name in HOT or name in NOT_FOR.get(A.kind, ()):
            continue
        try:
            OTHERS[name]()
        except Exception as error:
            note(f"{name} ended early: {error!r}")
            traceback.print_exc()
