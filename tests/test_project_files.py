"""What the project tells people and services about itself agrees with what it is."""

import re
from pathlib import Path

import pytest
import yaml
from packages import CORE, EXTRAS, PROJECT, ROOT
from packaging.requirements import Requirement

import qshift

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
UNFILLED = "TO FILL IN"


def steps(workflow):
    """Yields all steps of a workflow."""
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        assert job["runs-on"]
        yield from job["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflows:
    def test_actions_are_pinned_by_their_major_version(self, workflow):
        used = [step["uses"] for step in steps(workflow) if "uses" in step]
        assert used
        for action in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", action), action

    def test_they_ask_for_no_more_than_they_need(self, workflow):
        assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}

    def test_targets_of_make_exist(self, workflow):
        for step in steps(workflow):
            for goal in re.findall(r"\bmake (\S+)", step.get("run", "")):
                there = re.search(rf"^{re.escape(goal)}:", MAKEFILE, re.MULTILINE)
                assert there or goal == ".venv/.installed-test", goal

    def test_scripts_exist(self, workflow):
        for step in steps(workflow):
            for script in re.findall(r"\b(\w+/\w+\.py)\b", step.get("run", "")):
                assert (ROOT / script).is_file(), script


def test_every_python_that_is_supported_is_tested():
    (workflow,) = [path for path in WORKFLOWS if path.name == "test.yml"]
    matrix = yaml.safe_load(workflow.read_text())["jobs"]["pinned"]["strategy"]["matrix"]
    prefix = "Programming Language :: Python :: "
    said = [each.removeprefix(prefix) for each in PROJECT["classifiers"] if prefix in each]
    assert matrix["python"] == said


def test_the_oldest_pennylane_that_is_tested_is_the_oldest_that_is_admitted():
    (requirement,) = [each for each in CORE if each.name == "pennylane"]
    lowest = next(each.version for each in requirement.specifier if each.operator == ">=")
    assert f"pennylane=={lowest}.*" in (ROOT / ".github/workflows/test.yml").read_text()


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == qshift.__version__
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)


def test_forms_for_issues_ask_for_what_helps():
    bug = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    needed = {part["id"] for part in bug["body"] if part.get("validations", {}).get("required")}
    assert {"script", "outcome", "doctor"} <= needed


def test_the_paper_cites_what_its_bibliography_has():
    text = (ROOT / "paper/paper.md").read_text()
    cited = set(re.findall(r"@(\w+\d{4})\b", text))
    listed = re.findall(r"^@\w+\{(\w+),$", (ROOT / "paper/paper.bib").read_text(), re.MULTILINE)
    assert cited == set(listed) and len(listed) == len(cited)
    front = yaml.safe_load(text.split("---")[1])
    assert {"title", "tags", "authors", "affiliations", "bibliography"} <= set(front)


def test_the_conda_recipe_requires_what_pyproject_does():
    recipe = (ROOT / "packaging/conda/meta.yaml").read_text()
    run, constrained = recipe.split("  run:\n")[1].split("\ntest:\n")[0].split("run_constrained:")

    def listed(part):
        lines = re.findall(r"^    - (?!python)(.+)$", part, re.MULTILINE)
        return {each.name: each.specifier for each in map(Requirement, lines)}

    assert listed(run) == {each.name: each.specifier for each in CORE}
    # What has an upper bound and is not required, where it is installed.
    others = [each for name in ("qiskit", "dask") for each in EXTRAS[name]]
    bounded = [each for each in others if "<" in str(each.specifier)]
    assert listed(constrained) == {each.name: each.specifier for each in bounded}
    assert f'version = "{qshift.__version__}"' in recipe


def test_what_people_have_to_fill_in_is_listed():
    page = (ROOT / "docs/to-do-by-people.md").read_text()
    assert UNFILLED in page
    for name in ("CITATION.cff", "paper/paper.md", "CODE_OF_CONDUCT.md", "SECURITY.md"):
        assert UNFILLED in Path(ROOT / name).read_text() and name in page
