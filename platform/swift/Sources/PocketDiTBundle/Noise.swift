/// Gaussian noise that is bit-identical on every machine (platform/pocketdit/diffusion/portable_noise.py).
///
/// The algorithm consists of 32-bit integer operations and of float32 operations whose rounding IEEE 754 specifies.
/// Swift does not fuse products with sums unless the code requests it.
public enum PortableNoise {
    public static let name = "threefry2x32-20/box-muller-f32"

    /// Returns the words of a pair: the counter (pair, 0), encrypted with 20 rounds of Threefry-2x32 keyed by the seed.
    public static func words(seed: UInt64, pair: UInt32) -> (UInt32, UInt32) {
        let low = UInt32(truncatingIfNeeded: seed), high = UInt32(truncatingIfNeeded: seed >> 32)
        let keys = [low, high, low ^ high ^ 0x1BD1_1BDA]
        let rotations: [[UInt32]] = [[13, 15, 26, 6], [17, 29, 16, 24]]
        var x = pair &+ keys[0], y = keys[1]
        for group in 0..<5 {
            for rotation in rotations[group % 2] {
                x = x &+ y
                y = (y << rotation) | (y >> (32 - rotation))
                y ^= x
            }
            x = x &+ keys[(group + 1) % 3]
            y = y &+ keys[(group + 2) % 3] &+ UInt32(group + 1)
        }
        return (x, y)
    }

    /// Returns noise with `count` elements in the order (channel, row, column).
    public static func noise(seed: UInt64, count: Int) -> [Float] {
        var noise: [Float] = []
        noise.reserveCapacity(count + 1)
        for pair in 0..<UInt32((count + 1) / 2) {
            let (x, y) = words(seed: seed, pair: pair)
            let (first, second) = normalPair(x, y)
            noise.append(first)
            noise.append(second)
        }
        return Array(noise.prefix(count))
    }

    static func normalPair(_ x: UInt32, _ y: UInt32) -> (Float, Float) {
        let uniform = Float((x >> 8) + 1) * 0x1p-24  // in (0, 1]
        let radius = (-2 * logarithm(uniform)).squareRoot()
        let fraction = Float((y >> 6) & 0xFFFFFF) * 0x1p-24
        let angle = (fraction - 0.5) * halfPi  // in [-pi/4, pi/4)
        let square = angle * angle
        let sine = angle * polynomial(square, sineCoefficients)
        let cosine = polynomial(square, cosineCoefficients)
        let quadrant = y >> 30
        let across = quadrant & 1 == 1 ? -sine : cosine
        let along = quadrant & 1 == 1 ? cosine : sine
        let sign: Float = quadrant & 2 == 2 ? -1 : 1
        return (radius * (sign * across), radius * (sign * along))
    }

    static let halfPi = Float(1.5707963267948966 as Double)
    static let ln2 = Float(0.6931471805599453 as Double)
    static let logCoefficients: [Float] = [11, 9, 7, 5, 3, 1].map { Float(2.0 / ($0 as Double)) }
    static let sineCoefficients: [Float] = [362_880, -5040, 120, -6, 1].map { Float(1.0 / ($0 as Double)) }
    static let cosineCoefficients: [Float] = [-3_628_800, 40320, -720, 24, -2, 1].map { Float(1.0 / ($0 as Double)) }

    static func logarithm(_ value: Float) -> Float {
        let sqrtHalf: UInt32 = 0x3F35_04F3  // bits of sqrt(1/2)
        let offset = value.bitPattern &- sqrtHalf
        let exponent = Int32(bitPattern: offset) >> 23
        let mantissa = Float(bitPattern: (offset & 0x7FFFFF) + sqrtHalf)  // in [sqrt(1/2), sqrt(2))
        let s = (mantissa - 1) / (mantissa + 1)
        let series = s * polynomial(s * s, logCoefficients)
        return Float(exponent) * ln2 + series
    }

    static func polynomial(_ x: Float, _ coefficients: [Float]) -> Float {
        var value = coefficients[0]
        for coefficient in coefficients.dropFirst() {
            value = value * x + coefficient
        }
        return value
    }
}
