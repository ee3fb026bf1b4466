"""Sign-in at a real OpenID Connect server, on two servers of the app that share one store, in a real browser."""

from contextlib import ExitStack

import driving
import pytest
from conftest import again

driving.skip_without_chromium()
pytestmark = pytest.mark.browser

from hybrid.study import keeping  # noqa: E402
from hybrid.study.project import new_id  # noqa: E402

SECRETS = """[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "of the tests alone"
client_id = "hybrid"
client_secret = "any"
server_metadata_url = "{oidc}/.well-known/openid-configuration"
"""


@pytest.fixture
def servers(postgres_place, monkeypatch, tmp_path):
    """The addresses of two servers of the app, and of where one signs in."""
    from oidc_provider_mock import run_server_in_thread

    monkeypatch.setenv("HYBRID_STORE", postgres_place)
    monkeypatch.setenv("HYBRID_PROJECTS", "always")
    with ExitStack() as stack:
        oidc = f"http://localhost:{stack.enter_context(run_server_in_thread()).server_port}"
        urls = []
        for port in (driving.free_port(), driving.free_port()):
            secrets = tmp_path / f"{port}.toml"
            secrets.write_text(SECRETS.format(url=f"http://localhost:{port}", oidc=oidc))
            urls.append(stack.enter_context(driving.serving(f"--secrets.files={secrets}", port=port)))
        yield *urls, oidc


def sign_in(page, url, name):
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.locator("input[name=sub]").fill(name)
    page.get_by_role("button", name="Authorize").click()
    page.get_by_role("button", name=name).wait_for()
    driving.settle(page)


def test_a_project_is_seen_by_its_owner_alone_until_it_is_shared_and_then_copied(servers, browser, recorded_only):
    first, second, oidc = servers
    name = new_id()
    keeping.keep(again(recorded_only), name, user=f"{oidc} ann")
    ann, bob = (browser.new_context().new_page() for _ in range(2))
    ann.goto(f"{first}/?project={name}")
    ann.get_by_role("button", name="Sign in").wait_for()
    assert "mine.csv" not in ann.content()  # nobody sees anything before
    sign_in(ann, first, "ann")
    sign_in(bob, second, "bob")
    assert "mine.csv" not in bob.content()
    ann.get_by_role("link", name="mine.csv").click()  # among her recent projects
    driving.settle(ann)
    ann.get_by_text("Share by link").wait_for()
    bob.goto(f"{second}/?project={name}")
    bob.get_by_text("This project belongs to somebody else").wait_for()
    ann.get_by_text("Share by link").click()
    driving.settle(ann)
    bob.goto(f"{second}/?project={name}")
    bob.get_by_role("heading", name="mine.csv").wait_for()
    driving.settle(bob)
    copy = bob.url.split("project=")[1].split("&")[0]
    assert copy != name
    assert [k.id for k in keeping.recent(user=f"{oidc} bob")] == [copy]
    assert [k.id for k in keeping.recent(user=f"{oidc} ann")] == [name]
    bob.get_by_role("button", name="bob").click()
    bob.get_by_role("button", name="Sign out").click()
    bob.get_by_role("button", name="Sign in").or_(bob.get_by_text("End session")).first.wait_for()
    bob.goto(f"{second}/?project={copy}")
    bob.get_by_role("button", name="Sign in").wait_for()
    ann.context.close()
    bob.context.close()
