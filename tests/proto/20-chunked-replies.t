# Replies whose length is not known when they begin.

== a reply of unknown length is chunked
> GET /chunks HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Transfer-Encoding: chunked
< Connection: close
<
< 2
< ab
< 3
< cde
< 0
<

== for HTTP/1.0 it ends with the connection
> GET /chunks HTTP/1.0
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Connection: close
<
<| abcde

== which cannot be kept then
> GET /chunks HTTP/1.0
> Connection: keep-alive
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Connection: close
<
<| abcde
