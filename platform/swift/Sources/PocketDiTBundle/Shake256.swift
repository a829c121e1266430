/// Computes SHAKE-256 (FIPS 202), which the stand-ins for text encoders use to hash words.
public func shake256(_ message: [UInt8], count: Int) -> [UInt8] {
    let rate = 136
    var state = [UInt64](repeating: 0, count: 25)
    var padded = message + [0x1F]
    padded += [UInt8](repeating: 0, count: (rate - padded.count % rate) % rate)
    padded[padded.count - 1] |= 0x80
    for block in stride(from: 0, to: padded.count, by: rate) {
        for i in 0..<rate {
            state[i / 8] ^= UInt64(padded[block + i]) << UInt64(8 * (i % 8))
        }
        permute(&state)
    }
    var output: [UInt8] = []
    while output.count < count {
        if !output.isEmpty { permute(&state) }
        for i in 0..<rate where output.count < count {
            output.append(UInt8(truncatingIfNeeded: state[i / 8] >> UInt64(8 * (i % 8))))
        }
    }
    return output
}

private func permute(_ a: inout [UInt64]) {
    var register: UInt8 = 1  // the linear-feedback shift register that generates the round constants
    for _ in 0..<24 {
        var c = [UInt64](repeating: 0, count: 5)
        for x in 0..<5 { c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] }
        for x in 0..<5 {
            let d = c[(x + 4) % 5] ^ rotated(c[(x + 1) % 5], 1)
            for y in 0..<5 { a[x + 5 * y] ^= d }
        }
        var x = 1, y = 0, current = a[1]
        for t in 0..<24 {
            (x, y) = (y, (2 * x + 3 * y) % 5)
            let next = a[x + 5 * y]
            a[x + 5 * y] = rotated(current, UInt64((t + 1) * (t + 2) / 2 % 64))
            current = next
        }
        for y in 0..<5 {
            let row = (0..<5).map { a[$0 + 5 * y] }
            for x in 0..<5 { a[x + 5 * y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]) }
        }
        for j in 0..<7 {
            if register & 1 == 1 { a[0] ^= 1 << UInt64((1 << j) - 1) }
            register = (register << 1) ^ (register >> 7 == 1 ? 0x71 : 0)
        }
    }
}

private func rotated(_ value: UInt64, _ bits: UInt64) -> UInt64 {
    bits == 0 ? value : (value << bits) | (value >> (64 - bits))
}
