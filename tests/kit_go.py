"""A server and a client of Go's crypto/tls, built here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GO = """
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	if os.Args[1] == "serve" {
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s from Go\\n", body)
		})
		panic(http.ListenAndServeTLS(os.Args[2], "cert.pem", "key.pem", nil))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	if os.Args[1] == "http1" {
		transport.ForceAttemptHTTP2 = false
	}
	client := http.Client{Transport: transport}
	for i := 0; i < 3; i++ {
		answer, err := client.Post(os.Args[2], "text/plain", strings.NewReader("asked"))
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if string(body) != "asked from Go\\n" {
			panic(string(body))
		}
	}
}
"""


def build(folder: Path, name: str, *flags: str, **environment: str) -> Path:
    """The program, with these flags for the linker; a visible skip without Go, but in CI."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("this needs Go: https://go.dev/dl")
    (folder / "go.mod").write_text("module site\n\ngo 1.19\n")
    (folder / "main.go").write_text(GO)
    words = [found, "build", "-ldflags", " ".join(flags), "-o", name, "."]
    given = os.environ | environment
    subprocess.run(words, check=True, capture_output=True, cwd=folder, timeout=300, env=given)
    return folder / name
