"""What scenarios share: the server under test, what is measured around it, and a client.

The server runs on one core, the load and the fake upstream on another. CPU time is read from /proc for
all processes of the server's session."""

import argparse
import concurrent.futures
import glob
import gzip
import hashlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TICK = os.sysconf("SC_CLK_TCK")
HOST = "127.0.0.1"
ABBREVIATED = "application/vnd.npm.install-v1+json"


def arguments():
    ap = argparse.ArgumentParser(description="Measures one server, offline, on loopback. See README.md.")
    ap.add_argument("--name", required=True, help="of the results")
    ap.add_argument("--kind", required=True, help="nginx-static, nginx-proxy, rustaccio or verdaccio")
    ap.add_argument("--cmd", required=True, help="placeholders: {config} {port} {dir} {upstream} {data}")
    ap.add_argument("--config-template", help="default: config/KIND.*; @PORT@ @DIR@ and others are filled in")
    ap.add_argument("--port", type=int, default=48800)
    ap.add_argument("--data", default=os.environ.get("BENCH_DATA", "target/bench/data"))
    ap.add_argument("--work", default=os.environ.get("BENCH_WORK", "target/bench/work"))
    ap.add_argument("--out", help="the file of the results; cells in it are kept")
    ap.add_argument("--scenarios", default="S1,S2,S3,S4,S5,S6,S7,S8,S9,S10,S11")
    ap.add_argument("--secs", type=float, default=2.5, help="of a repetition of a hot cell")
    ap.add_argument("--reps", type=int, default=3, help="repetitions of a hot cell")
    ap.add_argument("--cold-n", type=int, default=300, help="packages of S5")
    ap.add_argument("--delay", type=int, default=20, help="latency of upstream where it is asked, ms")
    ap.add_argument("--publish-n", type=int, default=200, help="packages of S6")
    ap.add_argument("--packages", type=int, default=10000, help="packages of S8")
    ap.add_argument("--mixed-n", type=int, default=100_000, help="requests of S10")
    ap.add_argument("--governed-rounds", type=int, default=5, help="starts of S11, without and with each")
    ap.add_argument("--install-runs", type=int, default=3, help="runs of each install of S7")
    ap.add_argument("--clients", default="npm,pnpm", help="of S7")
    ap.add_argument("--nice", type=int, default=0, help="e.g. -5 on a machine that others use too (root)")
    ap.add_argument("--server-core", type=int, default=0)
    ap.add_argument("--load-core", type=int, default=1)
    return ap.parse_args()


A = arguments()
DATA = os.path.abspath(A.data)
WORK = os.path.abspath(A.work) + "/" + A.name
OUT = os.path.abspath(A.out or f"target/bench/results/{A.name}.json")
BASE = f"http://{HOST}:{A.port}"
with open(f"{DATA}/manifest.json") as file:
    MANIFEST = json.load(file)
UPSTREAM, PACKAGES = MANIFEST["upstream"], MANIFEST["packages"]
UPSTREAM_HOST, UPSTREAM_PORT = UPSTREAM.split("//")[1].split(":")

RESULTS = {"name": A.name, "kind": A.kind, "cells": {}, "notes": []}
if os.path.exists(OUT):
    with open(OUT) as file:
        RESULTS = json.load(file)
RESULTS["when"] = time.strftime("%F %T")


def save():
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "w") as file:
        json.dump(RESULTS, file, indent=1)


def note(text):
    RESULTS["notes"].append(text)
    print("  !", text, flush=True)


def cell(key, **values):
    RESULTS["cells"][key] = values
    shown = (f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
    print(f"  {key:38s}", *shown, flush=True)
    save()
    return values


def renice(pid):
    """Plain nice means nothing across sessions where the kernel groups by session."""
    if not A.nice:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, pid, A.nice)
        with open(f"/proc/{pid}/autogroup", "w") as file:
            file.write(str(A.nice))
    except OSError:
        pass


def listening(port):
    with socket.socket() as s:
        return s.connect_ex((HOST, port)) == 0


def fresh(tag):
    """A new folder. Nothing is deleted while anything is measured: file systems may be slow to make files
    where many were deleted in the last minutes."""
    os.makedirs(WORK, exist_ok=True)
    return tempfile.mkdtemp(prefix=f"{tag}-", dir=WORK)


def read(path):
    with open(path) as file:
        return file.read()


def stat_of(pid):
    return read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()


# ---------------------------------------------------------------- the server under test
class Server:
    """Runs while the block runs; `startup` is how many seconds the first 200 took."""

    def __init__(self, folder, maxage="2m"):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.process = folder, None
        template = A.config_template or glob.glob(f"{HERE}/config/{A.kind}.*")[0]
        text = read(template)
        values = {
            "PORT": A.port,
            "DIR": folder,
            "UPSTREAM": UPSTREAM,
            "UPSTREAM_HOST": UPSTREAM.split("//")[1],
            "DATA": DATA,
            "MAXAGE": maxage,
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        config = f"{folder}/config" + os.path.splitext(template)[1]
        with open(config, "w") as file:
            file.write(text)
        command = A.cmd.format(config=config, port=A.port, dir=folder, upstream=UPSTREAM, data=DATA)
        self.argv = ["taskset", "-c", str(A.server_core), *shlex.split(command)]

    def __enter__(self):
        if listening(A.port):
            sys.exit(f"port {A.port} is taken")
        begin = time.perf_counter()
        with open(f"{self.folder}/server.log", "a") as log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            renice(self.process.pid)
            self.startup = self.wait_until_it_answers(begin)
        except BaseException:
            self.stop()
            raise
        return self

    def wait_until_it_answers(self, begin):
        while time.perf_counter() - begin < 60:
            try:
                if get("/-/ping")[0] == 200:
                    return time.perf_counter() - begin
            except OSError:
                time.sleep(0.002)
            if self.process.poll() is not None:
                break
        tail = read(f"{self.folder}/server.log")[-1000:]
        raise RuntimeError(f"{A.name} did not start: {tail}")

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if not self.process:
            return
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sig)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(10)
                break
            except subprocess.TimeoutExpired:
                continue
        begin = time.time()
        while listening(A.port) and time.time() - begin < 10:
            time.sleep(0.02)
        self.process = None

    def processes(self):
        """All processes of its session, each with the fields of /proc/PID/stat."""
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            pid = int(path.split("/")[2])
            try:
                fields = stat_of(pid)
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:
                found.append((pid, fields))
        return found

    def cpu(self):
        return sum(sum(map(int, fields[11:15])) for _, fields in self.processes()) / TICK

    def memory(self, field="VmRSS"):
        total = 0
        for pid, _ in self.processes():
            match = re.search(field + r":\s+(\d+)", read(f"/proc/{pid}/status"))
            total += int(match[1]) if match else 0
        return total / 1024

    def reset_peak(self):
        for pid, _ in self.processes():
            with open(f"/proc/{pid}/clear_refs", "w") as file:
                file.write("5")

    def settle(self, limit=30):
        """Returns when it is idle: requests that were given up run out."""
        begin, before, same = time.time(), self.cpu(), 0
        while time.time() - begin < limit and same < 4:
            time.sleep(0.05)
            now = self.cpu()
            same = same + 1 if now - before < 0.011 else 0
            before = now


# ---------------------------------------------------------------- the fake upstream
class Upstream:
    process = None

    @classmethod
    def start(cls):
        if listening(int(UPSTREAM_PORT)):
            sys.exit(f"port {UPSTREAM_PORT} of the fake upstream is taken")
        argv = ["taskset", "-c", str(A.load_core), "node", f"{HERE}/upstream.mjs", DATA, UPSTREAM_PORT]
        cls.process = subprocess.Popen(argv, start_new_session=True)
        renice(cls.process.pid)
        while not listening(int(UPSTREAM_PORT)):
            if cls.process.poll() is not None:
                sys.exit("the fake upstream did not start")
            time.sleep(0.02)

    @classmethod
    def stop(cls):
        if cls.process:
            cls.process.terminate()
            cls.process.wait()

    @classmethod
    def cpu(cls):
        if not cls.process or cls.process.poll() is not None:
            return 0
        return sum(map(int, stat_of(cls.process.pid)[11:13])) / TICK


def control(query):
    connection = http.client.HTTPConnection(UPSTREAM_HOST, int(UPSTREAM_PORT))
    connection.request("GET", "/-/bench/" + query)
    return json.loads(connection.getresponse().read())


# ---------------------------------------------------------------- measuring
def busy():
    fields = read("/proc/stat").split("\n", 1)[0].split()[1:9]
    return sum(int(text) for index, text in enumerate(fields) if index not in (3, 4)) / TICK


def ours():
    """CPU of the side of the load: this process, its children that have ended, the fake upstream."""
    return sum(os.times()[:4]) + Upstream.cpu()


class Measure:
    """CPU, wall clock and memory of the server around a block."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.server.settle()
        self.server.reset_peak()
        self.memory_before = self.server.memory()
        self.cpu_before = self.server.cpu()
        self.others_before = busy() - ours() - self.cpu_before
        self.begin = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.wall = time.perf_counter() - self.begin
        others = busy() - ours() - self.server.cpu() - self.others_before
        self.foreign = others / self.wall
        self.server.settle()
        self.cpu = self.server.cpu() - self.cpu_before
        self.peak = self.server.memory("VmHWM")
        self.growth = self.peak - self.memory_before

    def out(self, count, seconds=None, **more):
        values = {
            "n": count,
            "foreign": round(self.foreign, 2),
            "wall_s": self.wall,
            "rps": count / self.wall,
            "cpu_s": self.cpu,
            "cpu_per_1k": self.cpu / max(count, 1) * 1000,
            "peak_mb": self.peak,
            "rss_growth_mb": self.growth,
        }
        if seconds:
            values.update(p50=percentile(seconds, 50), p99=percentile(seconds, 99))
        return {**values, **more}


def percentile(seconds, percent):
    seconds = sorted(seconds)
    return 1000 * seconds[min(len(seconds) - 1, int(len(seconds) * percent / 100))]


# ---------------------------------------------------------------- a client
LOCAL = threading.local()


def request(method, path, headers=None, body=None, sink=None):
    """Status, headers and body; one kept-alive connection for each thread. `sink` takes the pieces of
    the body, of which then only the length is returned."""
    for attempt in (0, 1):
        connection = getattr(LOCAL, "connection", None)
        is_new = connection is None
        if is_new:
            connection = LOCAL.connection = http.client.HTTPConnection(HOST, A.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            if sink is None:
                data = answer.read()
            else:
                data = 0
                while piece := answer.read(1 << 20):
                    data += len(piece)
                    sink(piece)
            if answer.will_close:
                connection.close()
                LOCAL.connection = None
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        except (http.client.HTTPException, OSError):
            connection.close()
            LOCAL.connection = None
            if is_new or attempt:
                raise
    raise AssertionError("unreachable")


def get(path, headers=None):
    return request("GET", path, headers)


def in_parallel(workers, work, items):
    """Results and the seconds of each; an exception is a result."""

    def one(item):
        begin = time.perf_counter()
        try:
            result = work(item)
        except Exception as error:
            result = error
        return result, time.perf_counter() - begin

    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        done = list(pool.map(one, items))
    finally:
        # Who interrupts a run does not wait for what is still queued.
        pool.shutdown(cancel_futures=True)
    return [result for result, _ in done], [seconds for _, seconds in done]


def path_of(name):
    return "/" + name.replace("/", "%2f")


# ---------------------------------------------------------------- is it right?
def packument_problem(name, status, headers, body, accept, coding):
    """Why this is not the packument that was asked for; `None` if it is."""
    if status != 200:
        return f"status {status}"
    if accept == ABBREVIATED and not headers.get("content-type", "").startswith(ABBREVIATED):
        return f"content type {headers.get('content-type')}"
    if headers.get("content-encoding", "identity") != coding:
        return f"asked for {coding}, got {headers.get('content-encoding', 'identity')}"
    if coding == "gzip":
        body = gzip.decompress(body)
    try:
        versions = json.loads(body)["versions"]
    except (ValueError, KeyError) as error:
        return f"bad JSON: {error!r}"
    wanted = PACKAGES[name]["versions"]
    if len(versions) != wanted:
        return f"{len(versions)} versions, want {wanted}"
    urls = (version["dist"]["tarball"] for version in versions.values())
    bad = [url for url in urls if not url.startswith(BASE + "/")]
    if bad and A.kind != "nginx-static":
        return f"address of a tarball not rewritten: {bad[0]}"
    return None


def tarball_problem(tarball, status, body):
    if status != 200:
        return f"status {status}"
    if len(body) != tarball["size"] or hashlib.sha1(body).hexdigest() != tarball["sha1"]:
        return f"{len(body)} bytes, want {tarball['size']} with another digest"
    return None
