"""A real name service on loopback: nsd has the zones, one of them signed and
one signed and then forged; unbound validates and resolves."""
import os
import shutil
import socket
import subprocess
import tempfile
import time

from postern import free_port, wait_for

TOOLS = ("nsd", "unbound", "ldns-keygen", "ldns-signzone")
SOA = """$ORIGIN %s.
$TTL 60
@ SOA ns hostmaster 1 60 60 60 60
@ NS ns
ns A 127.0.0.1
"""


def available():
    return all(shutil.which(t, path=os.environ["PATH"] + ":/usr/sbin")
               for t in TOOLS)


class NameService:
    """plain: zone -> lines; signed: the same; forged: zone -> (lines, old,
    new): what is replaced after the signing.  Zones in silent have a server
    that does not answer, those in refused one that does not know them.
    The resolver listens at addresses; port: 0: any that is free.
    also: an address on loopback with port 53, for those who know no other."""

    def __init__(self, plain, signed=None, forged=None, silent=(),
                 refused=(), addresses=("127.0.0.1",), port=0, also=None):
        self.also = also
        self.dir = tempfile.mkdtemp(prefix="postern-dns-", dir="/tmp")
        self.processes = []
        self.silence = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.silence.bind(("127.0.0.1", 0))
            self.anchors = self.path("anchors")
            open(self.anchors, "w").close()
            for zone, text in plain.items():
                self.write(zone, SOA % zone + text)
            for zone, text in (signed or {}).items():
                self.sign(zone, text)
            for zone, (text, old, new) in (forged or {}).items():
                self.sign(zone, text)
                with open(self.path(zone)) as f:
                    good = f.read()
                assert old in good
                self.write(zone, good.replace(old, new))
            zones = [*plain, *(signed or {}), *(forged or {})]
            self.start_nsd(zones)
            self.configure_unbound(zones, silent, refused, addresses,
                                   port or free_port())
            self.start_unbound()
        except BaseException:
            self.close()
            raise

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def run(self, *command):
        return subprocess.run(command, cwd=self.dir, check=True, text=True,
                              capture_output=True).stdout.strip()

    def sign(self, zone, text):
        self.write(zone, SOA % zone + text)
        key = self.run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k",
                       zone + ".")
        self.run("ldns-signzone", "-f", zone + ".out", zone, key)
        os.rename(self.path(zone + ".out"), self.path(zone))
        with open(self.path(key + ".ds")) as ds, \
                open(self.anchors, "a") as anchors:
            anchors.write("; " + zone + "\n" + ds.read())

    def start(self, *command):
        p = subprocess.Popen(
            command, cwd=self.dir, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
        self.processes.append(p)
        return p

    def wait(self, p, port):
        def answers():
            assert p.poll() is None, f"{p.args[0]} ended"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        wait_for(p.args[0], answers)

    def start_nsd(self, zones):
        self.nsd_port = free_port()
        self.write("nsd.conf", f"""server:
  ip-address: 127.0.0.1@{self.nsd_port}
  zonesdir: "{self.dir}"
  database: ""
  pidfile: ""
  xfrdfile: "{self.dir}/xfrd"
  zonelistfile: "{self.dir}/zonelist"
  xfrdir: "{self.dir}"
  username: ""
  logfile: "{self.dir}/nsd.log"
  server-count: 1
remote-control:
  control-enable: no
""" + "".join(f"zone:\n  name: {z}\n  zonefile: {z}\n" for z in zones))
        self.nsd = self.start("nsd", "-d", "-c", self.path("nsd.conf"))
        self.wait(self.nsd, self.nsd_port)

    def configure_unbound(self, zones, silent, refused, addresses, port):
        self.port = port
        self.address = f"{addresses[0]}@{port}"
        ip6 = "yes" if any(":" in a for a in addresses) else "no"
        silence = self.silence.getsockname()[1]
        stubs = [(z, silence) for z in silent] + \
            [(z, self.nsd_port) for z in [*zones, *refused]]
        self.write("unbound.conf", f"""server:
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  directory: "{self.dir}"
  chroot: ""
  username: ""
  pidfile: ""
  logfile: "{self.dir}/unbound.log"
  use-syslog: no
  do-ip6: {ip6}
  do-daemonize: no
  do-not-query-localhost: no
  outgoing-port-avoid: 10000-31999
  module-config: "validator iterator"
  trust-anchor-file: "{self.anchors}"
""" + "".join(f"  interface: {a}\n" for a in
              [f"{a}@{port}" for a in addresses] +
              [f"{self.also}@53"] * bool(self.also)) + "".join(
            f"  local-zone: {z}. nodefault\n" for z in zones) + """
remote-control:
  control-enable: no
""" + "".join(f"stub-zone:\n  name: {z}.\n  stub-addr: 127.0.0.1@{p}\n"
              for z, p in stubs))

    def start_unbound(self):
        self.unbound = self.start("unbound", "-d", "-c",
                                  self.path("unbound.conf"))
        self.wait(self.unbound, self.port)

    def stop(self, p):
        p.terminate()
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        self.processes.remove(p)

    def close(self):
        for p in list(self.processes):
            self.stop(p)
        self.silence.close()
        # nsd's children may write their last while they end.
        for _ in range(50):
            shutil.rmtree(self.dir, ignore_errors=True)
            if not os.path.exists(self.dir):
                break
            time.sleep(0.05)
