# Which names a server on loopback answers to: a page can make its own name resolve to 127.0.0.1.

== a name that is not ours
> GET /a HTTP/1.1
> Host: evil.example
>
< HTTP/1.1 403 Forbidden
< Content-Type: text/plain
< Content-Length: 16
< Connection: close
<
<| host_not_allowed

== a loopback address with its port
> GET /a HTTP/1.1
> Host: 127.0.0.1:80
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== the same for IPv6
> GET /a HTTP/1.1
> Host: [::1]:80
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== a name that only begins like one
> GET /a HTTP/1.1
> Host: 127.evil.example
> Connection: close
>
< HTTP/1.1 403 Forbidden
< Content-Type: text/plain
< Content-Length: 16
< Connection: close
<
<| host_not_allowed
