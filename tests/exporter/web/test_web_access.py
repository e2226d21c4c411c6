"""HTTPS with certificates that are replaced, and basic authentication, over real connections."""

import asyncio
import logging
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bcrypt
import pytest
from aiohttp import ClientSession, TCPConnector, encode_basic_auth, web

from exporter.app import cli
from exporter.app.exits import ExitCode
from exporter.web.files import Reread, UnusableFileError
from exporter.web.server import listen, serving
from exporter.web.tls import Tls
from exporter.web.users import Users, authenticate
from tests.doubles.certificates import OPENSSL, make_certificate
from tests.doubles.process import exporter

PASSWORD = "correct horse"  # noqa: S105  (of nothing)


def replace(target: Path, source: Path) -> None:
    """Put a file in another's place at once, as a mounted Secret changes."""
    fresh = target.with_suffix(".new")
    fresh.write_bytes(source.read_bytes())
    fresh.replace(target)


def write(target: Path, text: str) -> None:
    source = target.with_suffix(".source")
    source.write_text(text)
    replace(target, source)


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def https(tls: Tls) -> AsyncIterator[tuple[str, int]]:
    app = web.Application()
    app.router.add_get("/metrics", hello)
    with listen("127.0.0.1", 0) as opened:
        async with serving(app, opened, tls) as url:
            assert url.startswith("https://127.0.0.1:")
            yield url, opened.getsockname()[1]


async def shown(port: int) -> str:
    """Connect by address, as Prometheus does; return the certificate that is shown, in PEM."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return ssl.DER_cert_to_PEM_cert(certificate)


async def test_https_is_served_to_those_who_trust_the_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    trusting = ssl.create_default_context(cafile=certificate)
    async with https(Tls(certificate, key)) as (url, _), ClientSession() as http:
        async with http.get(f"{url}/metrics", ssl=trusting) as response:
            assert await response.text() == "hello"
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", int(url.rpartition(":")[2]), ssl=ssl.create_default_context()
            )


async def test_a_replaced_certificate_is_used_for_the_next_connection(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "served")
    renewed, renewed_key = make_certificate(tmp_path, "renewed")
    old, new = certificate.read_text(), renewed.read_text()
    async with https(Tls(certificate, key)) as (_, port):
        assert await shown(port) == old
        replace(certificate, renewed)
        replace(key, renewed_key)
        assert await shown(port) == new


async def test_a_half_replaced_certificate_leaves_the_old_one_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = make_certificate(tmp_path, "served")
    renewed, renewed_key = make_certificate(tmp_path, "renewed")
    old, new = certificate.read_text(), renewed.read_text()
    async with https(Tls(certificate, key)) as (_, port):
        replace(certificate, renewed)
        with caplog.at_level(logging.WARNING, "exporter.web"):
            assert await shown(port) == old
            assert await shown(port) == old
        (warning,) = caplog.messages
        assert (
            f"it does not belong to the key {key}; the exporter goes on with the previous content"
            in warning
        )
        replace(key, renewed_key)
        assert await shown(port) == new
        certificate.unlink()
        assert await shown(port) == new


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# who scrapes\n\nprometheus:{hashed(PASSWORD)}\n")
    return path


@asynccontextmanager
async def asked_for_users(users: Users) -> AsyncIterator[str]:
    app = web.Application(middlewares=[authenticate(users, but={"/healthz"})])
    app.router.add_get("/metrics", hello)
    app.router.add_get("/healthz", hello)
    with listen("127.0.0.1", 0) as opened:
        async with serving(app, opened) as url:
            yield url


async def status(url: str, authorization: str = "") -> int:
    headers = {"Authorization": authorization} if authorization else {}
    async with ClientSession() as http, http.get(url, headers=headers) as response:
        if response.status == 401:
            assert response.headers["WWW-Authenticate"].startswith("Basic realm=")
        return response.status


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !",
        "Basic cHJvbWV0aGV1cw==",  # a name without a password
        f"Bearer {PASSWORD}",
        encode_basic_auth("prometheus", "wrong"),
        encode_basic_auth("prometheus", ""),
        encode_basic_auth("nobody", PASSWORD),
        encode_basic_auth("", ""),
        encode_basic_auth("prometheus", "x" * 100),
    ],
)
async def test_without_the_right_password_there_is_nothing(
    users_file: Path, authorization: str
) -> None:
    async with asked_for_users(Users(users_file)) as url:
        assert await status(f"{url}/metrics", authorization) == 401
        assert await status(f"{url}/other", authorization) == 401
        assert await status(f"{url}/healthz", authorization) == 200


async def test_with_the_right_password_each_time(
    users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = encode_basic_auth("prometheus", PASSWORD)
    async with asked_for_users(Users(users_file)) as url:
        assert await status(f"{url}/metrics", right) == 200

        def slow(*_args: bytes) -> bool:
            raise AssertionError("bcrypt again, for what is known to be right")

        monkeypatch.setattr(bcrypt, "checkpw", slow)
        assert await status(f"{url}/metrics", right) == 200


async def test_a_changed_password_is_the_only_one(users_file: Path) -> None:
    right, new = (encode_basic_auth("prometheus", word) for word in (PASSWORD, "new"))
    async with asked_for_users(Users(users_file)) as url:
        assert await status(f"{url}/metrics", right) == 200
        write(users_file, f"prometheus:{hashed('new')}")
        assert await status(f"{url}/metrics", right) == 401
        assert await status(f"{url}/metrics", new) == 200
        write(users_file, "nonsense")
        assert await status(f"{url}/metrics", new) == 200


async def test_what_could_not_be_read_is_logged_once(
    users_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = Users(users_file)
    old = encode_basic_auth("prometheus", PASSWORD)
    write(users_file, "half a li")
    for _ in range(3):
        assert await users.admit(old)
    assert len(caplog.records) == 1
    write(users_file, f"scraper:{hashed(PASSWORD)}")
    assert not await users.admit(old)
    assert await users.admit(encode_basic_auth("scraper", PASSWORD))


def test_what_fails_without_the_file_changing_is_tried_again(tmp_path: Path) -> None:
    path, works = tmp_path / "file", [True, False, False, True]
    path.write_text("1")

    def make() -> str:
        if not works.pop(0):
            raise UnusableFileError("not now")
        return path.read_text()

    reread = Reread(make, path)
    path.write_text("22")
    assert [reread(), reread(), reread(), reread()] == ["1", "1", "22", "22"]


async def test_nobody_is_answered_as_slowly_as_the_slowest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def checkpw(_: bytes, against: bytes) -> bool:
        asked.append(against)
        return False

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    path = tmp_path / "users"
    path.write_text(f"fast:$2b$05${53 * '.'}\nslow:$2b$12${53 * '.'}\n")
    await Users(path).admit(encode_basic_auth("who", "x"))
    assert [against[:7] for against in asked] == [b"$2b$12$"]


async def test_too_many_who_wait_are_sent_away(
    users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: release.wait(5))
    users = Users(users_file)
    who = [encode_basic_auth("prometheus", str(number)) for number in range(20)]
    asked = [asyncio.create_task(users.admit(each)) for each in who]
    await asyncio.sleep(0)
    release.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [each for each in answers if isinstance(each, web.HTTPServiceUnavailable)]
    assert len(refused) == 4
    assert refused[0].headers["Retry-After"] == "5"


async def test_a_password_does_not_pass_for_its_first_72_bytes(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"prometheus:{hashed('x' * 72)}")
    users = Users(path)
    assert await users.admit(encode_basic_auth("prometheus", "x" * 72))
    assert not await users.admit(encode_basic_auth("prometheus", "x" * 73))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "it has no user"),
        ("# nobody\n", "it has no user"),
        ("prometheus:secret\n", "1: not name:hash with a bcrypt hash"),
        ("# x\nprometheus:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "2: not name:hash"),
        (f":{'$2b$10$' + 53 * '.'}", "1: not name:hash"),
        (f"a:$2b$03${53 * '.'}", "1: not name:hash"),
        (f"a:$2b$31${53 * '.'}", "1: not name:hash"),
        (f"a:$2b$10${53 * 'x'}", "1: not name:hash"),
    ],
)
def test_users_files_that_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "users"
    path.write_text(content)
    with pytest.raises(UnusableFileError, match="users file") as error:
        Users(path)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--tls-cert", "cert"], "--tls-cert: needs tls-key too"),
        (["--tls-key", "key"], "--tls-key: needs tls-cert too"),
        (
            ["--tls-cert", "gone", "--tls-key", "key"],
            "TLS certificate gone: No such file or directory",
        ),
        (["--tls-cert", "cert", "--tls-key", "gone"], "TLS key gone: No such file or directory"),
        (["--tls-cert", "cert", "--tls-key", "."], "TLS key .: Is a directory"),
        (
            ["--tls-cert", "junk", "--tls-key", "key"],
            "TLS certificate junk: it has no certificate in PEM",
        ),
        (
            ["--tls-cert", "key", "--tls-key", "cert"],
            "TLS certificate key: it has no certificate in PEM",
        ),
        (
            ["--tls-cert", "torn", "--tls-key", "key"],
            "TLS certificate torn: it is not a certificate in PEM",
        ),
        (
            ["--tls-cert", "cert", "--tls-key", "torn-key"],
            "TLS key torn-key: it is not a private key in PEM",
        ),
        (["--tls-cert", "cert", "--tls-key", "junk"], "TLS key junk: it has no private key in PEM"),
        (
            ["--tls-cert", "cert", "--tls-key", "other"],
            "TLS certificate cert: it does not belong to the key other",
        ),
        (
            ["--tls-cert", "cert", "--tls-key", "locked"],
            "TLS key locked: it is encrypted, and must not be",
        ),
        (
            ["--tls-cert", "cert", "--tls-key", "locked-pkcs8"],
            "TLS key locked-pkcs8: it is encrypted, and must not be",
        ),
        (
            ["--tls-cert", "pipe", "--tls-key", "key"],
            "TLS certificate pipe: it is a pipe, not a file",
        ),
        (["--tls-cert", "cert", "--tls-key", "pipe"], "TLS key pipe: it is a pipe, not a file"),
        (["--basic-auth-users", "pipe"], "users file pipe: it is a pipe, not a file"),
        (["--basic-auth-users", "/dev/zero"], "users file /dev/zero: it is a device, not a file"),
        (["--basic-auth-users", "gone"], "users file gone: No such file or directory"),
        (["--basic-auth-users", "junk"], "users file junk:1: not name:hash with a bcrypt hash"),
    ],
)
def test_files_that_can_t_be_used_end_the_program_before_it_starts(
    given: list[str],
    problem: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("GPU_EXPORTER_")]:
        monkeypatch.delenv(name)

    def opened(_host: str, _port: int) -> socket.socket:
        raise AssertionError("listens in spite of it")

    monkeypatch.setattr("exporter.app.serve.listen", opened)
    assert cli.main(["serve", *given]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kube-gpu-exporter: error: ")
    assert problem in line


async def test_the_program_serves_with_both(folder: Path) -> None:
    users = folder / "users"
    users.write_text(f"prometheus:{hashed(PASSWORD)}\n")
    access = ("--tls-cert", folder / "cert", "--tls-key", folder / "key")
    trusting = ssl.create_default_context(cafile=folder / "cert")
    right = {"Authorization": encode_basic_auth("prometheus", PASSWORD)}
    with exporter(*access, "--basic-auth-users", users, "--backend", "simulated") as running:
        async with ClientSession(connector=TCPConnector(ssl=trusting)) as http:
            async with http.get(f"{running.url}/metrics") as response:
                assert response.status == 401
            async with http.get(f"{running.url}/metrics", headers=right) as response:
                assert response.status == 200
                assert "gpu_exporter_build_info" in await response.text()
            async with http.get(f"{running.url}/readyz") as response:
                assert response.status in {200, 503}
            async with http.get(f"{running.url}/healthz") as response:
                assert response.status == 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files and bad ones, by the names that the cases call them."""
    made = tmp_path_factory.mktemp("access")
    certificate, key = make_certificate(made, "good")
    certificate.rename(made / "cert")
    key.rename(made / "key")
    make_certificate(made, "second")[1].rename(made / "other")
    (made / "junk").write_text("junk")
    os.mkfifo(made / "pipe")
    (made / "torn").write_text((made / "cert").read_text()[:200])
    (made / "torn-key").write_text((made / "key").read_text()[:60])
    for locked, how in {"locked": ("ec",), "locked-pkcs8": ("pkcs8", "-topk8")}.items():
        encrypted = ("-aes128", "-passout", "pass:x") if how == ("ec",) else ("-passout", "pass:x")
        subprocess.run(
            [OPENSSL, *how, *encrypted, "-in", made / "key", "-out", made / locked],
            check=True,
            capture_output=True,
        )
    return made
