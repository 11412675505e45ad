# x-request-id of the client's own choice.

== a client's own request id comes back
> GET /a HTTP/1.1
> Host: localhost
> x-request-id: mine-1
> Connection: close
>
< HTTP/1.1 200 OK
< x-request-id: mine-1
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== one that could break a log line does not
> GET /a HTTP/1.1
> Host: localhost
> x-request-id: no good
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a
