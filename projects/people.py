"""Finding people to add to a project, without handing out a list of everybody who has an account."""

from django.db.models import Q, QuerySet

from accounts.models import User
from relay_project.db.rates import Rate

MAX_FOUND = 100  # people an answer; whoever looks for one person types more of the name
MAX_OFFSET = 10_000  # rows that PostgreSQL would read and throw away
SEARCHES = Rate("people search", 60, 60)  # a person who types; a script that tries addresses is slowed down


def search_people(searcher: User, text: str) -> QuerySet[User]:
    """Active people whom `searcher` may find, by name.

    Staff find everybody. Others find those who share a project with them by a part of name, address or login, and
    anybody by the whole address or login, which they must know already: tenants do not see each other.
    """
    people = User.objects.filter(is_active=True)
    if searcher.is_staff:
        return _having(people, text).order_by("name", "pk")
    colleagues = Q(memberships__project__memberships__user=searcher) | Q(pk=searcher.pk)
    found = Q(pk__in=_having(User.objects.filter(colleagues), text).values("pk"))
    if text:
        found |= Q(login=text.casefold()) | Q(email__iexact=text)
    return people.filter(found).order_by("name", "pk")


def _having(people: QuerySet[User], text: str) -> QuerySet[User]:
    if not text:
        return people
    return people.filter(Q(name__icontains=text) | Q(email__icontains=text) | Q(login__icontains=text))
