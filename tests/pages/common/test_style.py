import streamlit as st
from streamlit.testing.v1 import AppTest


def styled_page() -> None:
    from pages.common import style

    style.apply()


def closes_the_notice(app: AppTest) -> bool:
    assert not app.exception
    return any("Page not found" in element.proto.body for element in app.get("html"))


def test_only_the_first_session_of_a_server_closes_the_notice_of_a_deep_link() -> None:
    st.cache_resource.clear()
    first = AppTest.from_function(styled_page).run()
    assert closes_the_notice(first)
    assert closes_the_notice(first.run())
    assert not closes_the_notice(AppTest.from_function(styled_page).run())


def test_the_name_of_a_page_is_its_heading_and_cannot_be_markup() -> None:
    def titled_page() -> None:
        from pages.common import style

        style.title("Who <routes>?")

    app = AppTest.from_function(titled_page).run()
    assert [element.proto.body for element in app.get("html")] == [
        '<h1 class="page-title">Who &lt;routes&gt;?</h1>',
    ]
