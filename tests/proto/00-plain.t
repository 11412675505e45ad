# One request and its reply, in every version of the protocol we speak.

== a request
> GET /a HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== an empty line before it
>
> GET /a HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== HTTP/1.0 closes
> GET /a HTTP/1.0
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== HTTP/1.0 that asks to keep the connection
> GET /a HTTP/1.0
> Connection: keep-alive
>
> GET /b HTTP/1.0
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: keep-alive
<
< /aHTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /b

== HEAD has the head only
> HEAD /a HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
