"""The report of a run as the course asks for it: every chapter in order, as one document, page or PDF."""

from bintally.report import about_results, about_task, about_training, page
from bintally.report.document import Document
from bintally.report.gather import Material


def course_report(material: Material) -> Document:
    """Everything about a run, from the question to the cost.

    Args:
        material: what the stages wrote, as `gather.gather` reads it.
    """
    counts = about_task.counts_of(material)
    about = material.about
    lead = [f"Run `{material.run.name}`"]
    if counts:
        lead.append(f"counts {counts}")
    if material.card is not None:
        lead.append(material.card.architecture)
    if about["status"] != "finished":
        lead.append(f"the training is {about['status']}")
    return Document(
        title="Counting the items in bin photos",
        lead="; ".join(lead),
        summary=about_results.summary(material),
        sections=(
            about_task.definition(material),
            about_task.data(material),
            about_task.method(material),
            about_task.benchmark(material),
            about_training.tuning(material),
            about_training.training(material),
            about_training.watching(material),
            about_training.profiling(material),
            about_results.results(material),
            about_results.examples(material),
            about_results.cost(material),
            about_results.again(material),
        ),
        foot=material.card.licence if material.card else "",
    )


def course_page(document: Document) -> str:
    """The document as one self-contained HTML page."""
    return page.render("report.html", document=document)
