"""References, by the cases of distribution/reference."""

from __future__ import annotations

import pytest

from engine.errors import InvalidArgument
from engine.model.reference import Reference, check_digest

pytestmark = pytest.mark.guest

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8


@pytest.mark.parametrize(
    ("text", "shown", "domain", "path"),
    [
        ("test_com", "test_com:latest", "docker.io", "library/test_com"),
        ("test.com:tag", "test.com:tag", "docker.io", "library/test.com"),
        ("test.com:5000", "test.com:5000", "docker.io", "library/test.com"),
        ("test.com/repo:tag", "test.com/repo:tag", "test.com", "repo"),
        ("test:5000/repo", "test:5000/repo:latest", "test:5000", "repo"),
        (f"test:5000/repo:tag@{SHA256}", f"test:5000/repo:tag@{SHA256}", "test:5000", "repo"),
        (f"test:5000/repo@{SHA512}", f"test:5000/repo@{SHA512}", "test:5000", "repo"),
        ("lowercase/Uppercase".lower(), "lowercase/uppercase:latest", "docker.io", "lowercase/uppercase"),
        ("test:5000/a/b/c/d", "test:5000/a/b/c/d:latest", "test:5000", "a/b/c/d"),
        ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com/bar/baz/quux:some-long-tag", "sub-dom1.foo.com", "bar/baz/quux"),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage"),
        ("foo_bar.com:8080", "foo_bar.com:8080", "docker.io", "library/foo_bar.com"),
        ("foo/foo_bar.com:8080", "foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com"),
        ("192.168.1.1", "192.168.1.1:latest", "docker.io", "library/192.168.1.1"),
        ("192.168.1.1:5000/repo", "192.168.1.1:5000/repo:latest", "192.168.1.1:5000", "repo"),
        ("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000/repo:latest", "[2001:db8::1]:5000", "repo"),
        ("localhost/repo", "localhost/repo:latest", "localhost", "repo"),
        ("docker.io/library/foo", "foo:latest", "docker.io", "library/foo"),
        ("docker.io/library/foo/bar", "library/foo/bar:latest", "docker.io", "library/foo/bar"),
        ("index.docker.io/foo", "foo:latest", "docker.io", "library/foo"),
        ("Asdf.com/foo/bar", "Asdf.com/foo/bar:latest", "Asdf.com", "foo/bar"),
        ("a__a/a-----a", "a__a/a-----a:latest", "docker.io", "a__a/a-----a"),
    ],
)
def test_what_a_reference_means(text: str, shown: str, domain: str, path: str) -> None:
    found = Reference.parse(text)
    assert (str(found), found.domain, found.path) == (shown, domain, path)
    assert Reference.parse(str(found)) == found


def test_a_digest_counts_more_than_a_tag() -> None:
    assert Reference.parse(f"a/b:1@{SHA256}").key == f"a/b@{SHA256}"
    assert Reference.parse("a/b:1").key == "a/b:1"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "invalid reference format"),
        (":justtag", "invalid reference format"),
        (f"@{SHA256}", "invalid reference format"),
        ("repo@sha256:" + "f" * 34, "invalid checksum digest length"),
        ("validname@invaliddigest:" + "f" * 128, "unsupported digest algorithm"),
        ("Uppercase:tag", "repository name (library/Uppercase) must be lowercase"),
        ("test:5000/Uppercase/lowercase:tag", "repository name (Uppercase/lowercase) must be lowercase"),
        ("a/" * 128 + "a:tag", "must not be more than 255 characters"),
        ("aa/asdf$$^/aa", "invalid reference format"),
        ("-test.com/repo", "invalid reference format"),
        ("a___a/b", "invalid reference format"),
        ("[fe80::1%25eth0]/repo", "invalid reference format"),
        ("f" * 64, "cannot specify 64-byte hexadecimal strings"),
        (SHA256, "invalid reference format"),
    ],
)
def test_what_is_no_reference(text: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Reference.parse(text)
    assert sentence in caught.value.message


def test_a_digest_is_in_lower_case() -> None:
    assert check_digest(SHA512) == SHA512
    with pytest.raises(InvalidArgument, match="invalid checksum digest format"):
        check_digest(SHA256.upper().replace("SHA256", "sha256"))
