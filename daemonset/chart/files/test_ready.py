"""What `helm test` runs: asks each exporter whether it is ready, and says which is not, and why."""  # noqa: INP001

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request

service, port, scheme = sys.argv[1:]

# Pods are asked by address, and a certificate is for names.
tls = ssl.create_default_context()
tls.check_hostname = False
tls.verify_mode = ssl.CERT_NONE


def problem(address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    url = f"{scheme}://{host}:{port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=10, context=tls):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        checks = json.load(error)["checks"]
        return "; ".join(
            f"{check['name']}: {check['reason']}" for check in checks if not check["ok"]
        )
    except OSError as error:
        return str(error)


try:
    found = socket.getaddrinfo(service, port, type=socket.SOCK_STREAM)
except OSError:
    sys.exit(f"{service} has no pods: does its affinity and do its tolerations let it on a node?")
problems = {address: problem(address) for address in sorted({str(info[4][0]) for info in found})}
for address, text in problems.items():
    sys.stdout.write(f"{address} {f'is not ready: {text}' if text else 'is ready'}\n")
sys.exit(any(problems.values()))
