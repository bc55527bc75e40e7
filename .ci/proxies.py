"""Proxies on the loopback device, all with configurations that do the same work, and a backend for
them: what sidecar-cost and measure start, and nothing that either of them decides."""
import os, pathlib, shutil, socket, subprocess, sys, time


class Rig:
    """Processes of one script. It ends those that it started, and nothing else."""

    def __init__(self, dir, sidecars, first_port):
        self.dir = pathlib.Path(dir).resolve()
        self.sidecars = sidecars
        self.backend = f"127.0.0.1:{first_port}"
        self.backend_port = first_port
        self.ports = iter(range(first_port + 1, first_port + 100))
        self.started = []

    def start(self, name, core, *command):
        log = open(self.dir / f"{name}.log", "w")
        command = ["taskset", "-c", str(core), *map(str, command)]
        # In a session of its own: Ctrl-C is for the script, which ends them in order.
        self.started.append(
            subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        return self.started[-1].pid

    def end(self):
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def wait_for(self, port):
        for _ in range(100):
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.1)
        sys.exit(f"nothing listens on port {port}; see the logs in {self.dir}")

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def nginx_server(self, name, core, server):
        conf = self.write(f"{name}.conf", f"""
worker_processes 1;
pid {self.dir}/{name}.pid;
error_log {self.dir}/{name}.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  {server}
}}""")
        return self.start(name, core, "nginx", "-c", conf, "-g", "daemon off;")

    def start_backend(self, core):
        answer = 'location / { return 200 "hello world"; }'
        return self.nginx_server("backend", core, f"server {{ listen {self.backend}; {answer} }}")

    def nginx(self, core, port):
        onward = 'proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";'
        return self.nginx_server("nginx", core, f"""
  upstream b {{ server {self.backend}; keepalive 64; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ {onward} }} }}""")

    def haproxy(self, core, port):
        conf = self.write("haproxy.cfg", f"""
global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  option http-keep-alive
  option redispatch
  retries 2
  retry-on conn-failure empty-response 503
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  balance leastconn
  http-reuse always
  server s {self.backend} observe layer7 error-limit 5 on-error mark-down check inter 10s
""")
        return self.start("haproxy", core, "haproxy", "-f", conf, "-db")

    def envoy(self, core, port):
        filters = "type.googleapis.com/envoy.extensions.filters"
        conf = self.write("envoy.yaml", f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {filters}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: b, timeout: 15s, retry_policy: {{retry_on: "5xx,reset", num_retries: 2}}}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {filters}.http.router.v3.Router}}
  clusters:
  - name: b
    type: STATIC
    connect_timeout: 5s
    lb_policy: LEAST_REQUEST
    outlier_detection: {{}}
    load_assignment:
      cluster_name: b
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {self.backend_port}}}}}}}
""")
        command = [os.environ["ENVOY"], "-c", conf, "--concurrency", 1, "-l", "error"]
        return self.start("envoy", core, *command, "--use-dynamic-base-id")

    def sidecar(self, name, core, port):
        conf = self.write(f"{name}.toml", f"""
workers = 1
listeners = [{{ name = "outbound", listen = "127.0.0.1:{port}" }}]
clusters = [{{ name = "web", endpoints = ["{self.backend}"] }}]
routes = [{{ cluster = "web" }}]
""")
        return self.start(name, core, self.sidecars[name], "--config", conf)


def installed(program):
    return shutil.which(program) is not None
