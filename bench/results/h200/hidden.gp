# Draws the .svg and the .png beside this script from the .tsv: run gnuplot in this folder.
set encoding utf8
set datafile separator "\t"
set title 'hidden: gpu (µs) against hidden'."\n".'dtype=bf16, NVIDIA H200'
set xlabel 'hidden'
set ylabel 'gpu (µs), median and quartiles'
set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top vertical Left reverse samplen 2 noenhanced
set key title 'rows' left
set logscale x
set xtics ('1000' 1000, '2000' 2000, '5000' 5000, '10000' 10000)
set xrange [430.53896460990188:19483.969372204581]
set logscale y
set ytics ('1' 1, '2' 2, '5' 5, '10' 10, '20' 20, '50' 50, '100' 100, '200' 200, '500' 500)
set yrange [0.75790258709779046:606.89243331610658]
set terminal svg size 960,560 dynamic noenhanced font 'Helvetica,Arial,sans-serif,15' background 'white'
set output 'hidden.svg'
plot 'hidden.tsv' index 0 using 1:2:3:4 with yerrorlines lc rgb '#0072B2' lw 2 pt 7 ps 1 title '256', \
     'hidden.tsv' index 1 using 1:2:3:4 with yerrorlines lc rgb '#D55E00' lw 2 pt 5 ps 1 title '2048', \
     'hidden.tsv' index 2 using 1:2:3:4 with yerrorlines lc rgb '#009E73' lw 2 pt 9 ps 1 title '16384'
set terminal pngcairo size 1920,1120 noenhanced font 'Sans,15' fontscale 1.9 linewidth 2 pointscale 2
set output 'hidden.png'
replot
set output
