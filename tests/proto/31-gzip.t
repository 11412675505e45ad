# gzip request bodies.

== a compressed body arrives as what it was
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 26
> Connection: close
>
>| \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KLJNIM\x03\x00\xef9\x8eK\x06\x00\x00\x00
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 6
< Connection: close
<
<| abcdef

== the maximum holds for what comes out
> POST /small HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 26
> Connection: close
>
>| \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KLJNIM\x03\x00\xef9\x8eK\x06\x00\x00\x00
< HTTP/1.1 413 Content Too Large
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
<
<| request_too_large

== a bomb: 100 kB out of 132 bytes
> POST /small HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 132
> Connection: close
>
>| \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xc11\x01\x00\x00\x00\xc2\xa0\xf5Om\r\x0f\xa0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80W\x03}\x95\x11\xd4\xa0\x86\x01\x00
< HTTP/1.1 413 Content Too Large
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
<
<| request_too_large

== cut off before its end
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 17
> Connection: close
>
>| \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KLJNIM\x03
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== a wrong checksum
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 26
> Connection: close
>
>| \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KLJNIM\x03\x00\x00\x00\x00\x00\x06\x00\x00\x00
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== bytes behind its end
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 27
> Connection: close
>
>| \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KLJNIM\x03\x00\xef9\x8eK\x06\x00\x00\x00x
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== nothing at all
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 0
> Connection: close
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request
