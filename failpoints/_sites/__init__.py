"""How a program marks its failpoints: `failpoint`, `failpoint_scope`, and the functions that they decorate."""
