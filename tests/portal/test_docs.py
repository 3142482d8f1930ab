"""The documentation as the portal serves it, and the way to it from where trouble shows."""

from __future__ import annotations

import pytest

from portal.pages.docs import pages, rendered

pytestmark = pytest.mark.django_db


def test_a_runbook_is_a_page_for_everybody(client):
    answer = client.get("/docs/runbooks/gpu-fault")
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "<h1>GPU fault</h1>" in page
    assert '<h2 id="what-to-do">What to do</h2>' in page
    assert 'href="/docs/runbooks/no-capacity"' in page
    assert 'href="/docs/runbooks"' in page
    assert ".md" not in page.partition("<article")[2].partition("</article")[0]


def test_the_index_leads_to_every_runbook(client):
    page = client.get("/docs/runbooks").content.decode()
    for name in pages():
        if name.startswith("runbooks/"):
            assert f'href="/docs/{name}"' in page


@pytest.mark.parametrize(
    "page", ["runbooks/nothing", "../manage.py", "runbooks/../../README", "img/portal.png", ""]
)
def test_only_pages_are_served(client, page):
    assert client.get(f"/docs/{page}").status_code == 404


@pytest.mark.parametrize("page", sorted(pages()))
def test_no_page_needs_a_style_of_its_own(page):
    assert "style=" not in rendered(pages()[page])[1]


def test_html_in_a_page_is_text(tmp_path, settings):
    settings.BASE_DIR = tmp_path
    path = tmp_path / "docs" / "bad.md"
    path.parent.mkdir()
    path.write_text(
        "# Bad\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](x.png) [z](../out.txt)\n"
    )
    title, content = rendered(path)
    assert title == "Bad"
    assert "<script" not in content
    assert "href" not in content
    assert "<img" not in content
