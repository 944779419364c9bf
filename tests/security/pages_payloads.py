"""What attackers write into fields: for databases, pages, templates, terminals and other readers of text."""

from __future__ import annotations

# In small letters where the tests take capitals in an answer for words of the service itself.
SQL = [
    "' OR '1'='1",
    "' OR 1=1 --",
    "'; DROP TABLE users CASCADE; --",
    '"; DELETE FROM score_history; --',
    "1); update users set role='admin'; --",
    "' union select password_hash from users --",
    "\\'; DROP TABLE actions; --",
    "'||(select pg_sleep(20))||'",
    "$$;select pg_sleep(20);$$",
    "%(user_id)s %s :user_id ${user_id} ? $1",
    "%_\\%",
    "ʼ OR ＇1＇＝＇1",
]
# Each would set isPwned if it ran.
HTML = [
    "<script>isPwned=1</script>",
    "<img src=x onerror=isPwned=1>",
    "<svg onload=isPwned=1>",
    "\"><iframe srcdoc='<p>'></iframe>",
    "' onmouseover='isPwned=1",
    "</td></tr></table><b>out</b>",
    "</title></textarea><b>out</b>",
    "<!--<b>--><style>*{color:red}",
    "<a href=javascript:isPwned=1>me</a>",
    "javascript:isPwned=1",
    "&lt;b&gt;&#60;b&#62;&amp;",
    "<base href=//stranger.example>",
    "<form id=rows><input name=name>",
    "<math><mi xlink:href=x>",
]
TEMPLATES = ["{{7*7}}{%if 1%}", "${7*7}#{7*7}<%=7*7%>", "{{config}}", "__proto__", "constructor"]
# Neither a name nor a reason may have these; other fields may.
TURNING = ["a\u202egnp.exe", "a\u2028b\u2029c", "a\u2066b\u2069", "a\x1b[31mb", "a\x7f\x85b", "a\0b"]
# A name may not have these.
HIDDEN = [*TURNING, "a\r\nb: c"]

TEXTS = [*SQL, *HTML, *TEMPLATES, *HIDDEN]
